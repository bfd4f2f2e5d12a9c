"""A foundation encoder as teacher, for any model with a backbone: its last map, whitened (Wei et al. 2022)."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    foundation=dict(
        type='kddense.FeatureObjective',
        tap='backbone',
        levels=[-1],
        connector=dict(type='kddense.Connector'),  # a projection is learned even where the channels agree
        loss=dict(type='kddense.WhitenedLoss'),
        weight=10,
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

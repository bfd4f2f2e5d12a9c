"""A foundation encoder with stages as teacher, for any model with a backbone: its whitened maps, stage by stage."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    foundation=dict(
        type='kddense.FeatureObjective',
        tap='backbone',
        levels=[-3, -2, -1],
        connector=dict(type='kddense.Connector'),
        loss=dict(type='kddense.WhitenedLoss'),
        weight=10,
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

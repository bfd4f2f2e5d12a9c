"""ReviewKD (Chen et al. 2021) for any model with a backbone: levels fused from the deepest on, compared at several sizes."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    review=dict(
        type='kddense.FeatureObjective',
        connector=dict(type='kddense.ReviewConnector'),
        loss=dict(type='kddense.HierarchicalContextLoss'),
        weight=5,  # the authors add up the five levels of a pyramid; here they are averaged
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

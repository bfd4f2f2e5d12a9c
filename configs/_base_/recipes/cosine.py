"""Cosine of places, as RT-DETRv4 (2025) ties a detector to a foundation encoder: the backbone's last stage, projected."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    cosine=dict(
        type='kddense.FeatureObjective',
        tap='backbone',
        levels=[-1],
        connector=dict(type='kddense.Connector'),
        loss=dict(type='kddense.CosineLoss'),
        weight=10,
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

"""A foundation encoder with stages as teacher of backbone and neck: the cosine of places."""

_base_ = './cosine.py'

objectives = dict(
    neck=dict(
        type='kddense.FeatureObjective',
        tap='neck',
        teacher_tap='backbone',
        levels=[1, 2, 3],  # 8, 16 and 32 of a pyramid that begins at 4, of the teacher too
        connector=dict(type='kddense.Connector'),
        loss=dict(type='kddense.CosineLoss'),
        weight=10,
    )
)
distiller = dict(objectives=objectives)

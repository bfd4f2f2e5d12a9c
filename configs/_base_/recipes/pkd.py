"""PKD (Cao et al. 2022) for two-stage detectors of mmdet: what correlates with the teacher's pyramid, level by level."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    pkd=dict(
        type='kddense.FeatureObjective',
        tap='neck',
        levels=[0, 1, 2, 3],
        loss=dict(type='kddense.PKDLoss'),
        weight=24,  # the authors weight each level with 6 and add the four of them; here they are averaged
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

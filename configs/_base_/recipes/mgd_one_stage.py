"""MGD (Yang et al. 2022) for one-stage detectors of mmdet, with the authors' weight for five levels."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    mgd=dict(
        type='kddense.MGDObjective',
        weight=1e-4,  # 2e-5 for each of five levels, which the authors add up; here they are averaged
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

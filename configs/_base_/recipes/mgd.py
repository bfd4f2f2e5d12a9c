"""MGD (Yang et al. 2022) for two-stage detectors: the teacher's pyramid, generated from what is left of the student's."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    mgd=dict(
        type='kddense.MGDObjective',
        levels=[0, 1, 2, 3],
        masked=0.45,
        weight=2e-6,  # 5e-7 for each of four levels, which the authors add up; here they are averaged
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

"""DKD (Zhao et al. 2022) for any segmentor or detector: soft targets, the true class apart from the others."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(dkd=dict(type='kddense.DKDObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

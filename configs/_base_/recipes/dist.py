"""DIST (Huang et al. 2022) for any segmentor or detector: how class probabilities correlate with the teacher's."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(dist=dict(type='kddense.DISTObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

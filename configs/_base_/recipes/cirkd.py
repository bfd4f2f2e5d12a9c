"""CIRKD (Yang et al. 2022) for any segmentor, detector or depth estimator: how places resemble those of other images."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(cirkd=dict(type='kddense.CIRKDObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

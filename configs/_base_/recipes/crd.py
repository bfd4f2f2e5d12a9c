"""CRD (Tian et al. 2020) for any model with a backbone: vectors of images, of detectors those of boxes, against memories."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(crd=dict(type='kddense.CRDObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

"""Soft masks for two detectors with mask heads as Mask R-CNN has them; put it behind the student's config."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(masks=dict(type='kddense.MaskObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

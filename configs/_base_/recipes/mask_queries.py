"""Matched masks of queries for two of MaskFormer or Mask2Former; put it behind the student's config."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(mask_queries=dict(type='kddense.MaskQueryObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

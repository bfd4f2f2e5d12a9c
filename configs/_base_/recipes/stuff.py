"""Stuff of two Panoptic FPNs, pixel by pixel; put it behind the student's config, beside recipes for boxes and masks."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
# Ten times the head's own loss, as structured distillation has it, and that has a factor of 0.5.
objectives = dict(stuff=dict(type='kddense.PixelWiseObjective', on='semantic_head', weight=5.0))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

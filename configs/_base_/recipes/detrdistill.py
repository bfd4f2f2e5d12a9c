"""DETRDistill's matched predictions (Chang et al. 2023) for two detectors of the DETR family with as many decoder layers."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(detrdistill=dict(type='kddense.DETRDistillObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

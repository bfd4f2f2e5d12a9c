"""KD-DETR (Wang et al. 2024) for two detectors of one DETR family, whose decoders judge the same queries."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(kd_detr=dict(type='kddense.KDDETRObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

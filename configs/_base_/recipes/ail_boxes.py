"""Saputra et al. 2019 for one- and two-stage detectors of mmdet: a teacher's boxes, as far as they are right."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(boxes=dict(type='kddense.AttentiveBoxObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)

"""Saputra et al. 2019 for one- and two-stage detectors of mmdet: a teacher's boxes, as far as they are right."""

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
objectives = dict(boxes=dict(type='kddense.AttentiveBoxObjective'))

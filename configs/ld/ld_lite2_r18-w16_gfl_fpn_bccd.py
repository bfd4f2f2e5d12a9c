"""Localization distillation for GFL on BCCD: the quarter-width student learns from EfficientNet-Lite2."""

_base_ = [
    '../ld/gfl_r18-w16_fpn_bccd.py',
    '../_base_/recipes/ld.py',
    '../_base_/teachers/gfl_lite2_bccd.py',
]

model = dict(student=_base_.model, teacher=_base_.teacher, **_base_.distiller)

"""Attentive imitation and hint of depth on NYUv2 from EfficientNet-Lite2, η the range seen so far."""

_base_ = [
    '../skd/depth_r18-w8_nyuv2.py',
    '../_base_/recipes/ail_depth.py',
    '../_base_/teachers/depth_lite2_nyuv2.py',
]

model = dict(student=_base_.model, teacher=_base_.teacher, **_base_.distiller)

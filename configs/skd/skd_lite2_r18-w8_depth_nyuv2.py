"""Structured distillation of depth on NYUv2 from EfficientNet-Lite2: PA + HO, the discriminator narrow as the student is."""

_base_ = [
    '../skd/depth_r18-w8_nyuv2.py',
    '../_base_/recipes/skd_depth.py',
    '../_base_/teachers/depth_lite2_nyuv2.py',
]

_base_.distiller.objectives.holistic.discriminator = dict(channels=16)
model = dict(student=_base_.model, teacher=_base_.teacher, **_base_.distiller)
optim_wrapper = _base_.joint_optim_wrapper

"""Structured distillation of depth on NYUv2: PA + HO, the discriminator narrow as the networks are."""

_base_ = ['./depth_r18-w8_nyuv2.py', '../_base_/recipes/skd_depth.py']

_base_.distiller.objectives.holistic.discriminator = dict(channels=16)
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/depth_r18_nyuv2.py',
        checkpoint='work_dirs/nyuv2/teacher/iter_2000.pth',
        precision='bf16',
        channels_last=True,
    ),
    **_base_.distiller,
)
optim_wrapper = _base_.joint_optim_wrapper

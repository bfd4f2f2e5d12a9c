"""Structured distillation of depth on NYUv2: PA + HO, the discriminator narrow as the networks are."""

_base_ = ['./depth_r18-w8_nyuv2.py', '../_base_/recipes/skd_depth.py']

model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student={{_base_.model}},
    teacher=dict(
        config='kddense::skd/depth_r18_nyuv2.py',
        checkpoint='work_dirs/nyuv2/teacher/iter_2000.pth',
        precision='bf16',
        channels_last=True,
    ),
    objectives=dict(
        pair={{_base_.objectives.pair}},
        holistic=dict(type='kddense.HolisticObjective', discriminator=dict(channels=16)),
    ),
)
optim_wrapper = {{_base_.joint_optim_wrapper}}

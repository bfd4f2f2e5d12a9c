"""The depth estimator of the demo, taught with structured distillation: PA + HO, the discriminator narrow too."""

_base_ = ['./depth_r18-w8_street-scenes.py', '../_base_/recipes/skd_depth.py']

model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student={{_base_.model}},
    teacher=dict(
        config='configs/demo/depth_r18-w32_street-scenes.py',
        checkpoint='work_dirs/demo_depth/teacher/iter_500.pth',
    ),
    objectives=dict(
        pair={{_base_.objectives.pair}},
        holistic=dict(type='kddense.HolisticObjective', discriminator=dict(channels=16)),
    ),
)
optim_wrapper = {{_base_.joint_optim_wrapper}}

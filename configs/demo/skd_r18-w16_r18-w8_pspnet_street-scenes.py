"""The segmentor of the demo, taught with structured distillation: PI + PA + HO, the discriminator narrow as the networks."""

_base_ = ['./pspnet_r18-w8_street-scenes.py', '../_base_/recipes/skd.py']

model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student={{_base_.model}},
    teacher=dict(
        config='kddense::demo/pspnet_r18-w16_street-scenes.py',
        checkpoint='work_dirs/demo_segmentation/teacher/iter_500.pth',
    ),
    objectives=dict(
        pixel={{_base_.objectives.pixel}},
        pair={{_base_.objectives.pair}},
        holistic=dict(type='kddense.HolisticObjective', discriminator=dict(channels=16)),
    ),
)
optim_wrapper = {{_base_.joint_optim_wrapper}}
custom_hooks = [dict(type='kddense.RandomStateHook')]

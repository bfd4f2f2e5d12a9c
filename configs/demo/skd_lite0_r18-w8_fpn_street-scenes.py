"""The segmentor of the demo, taught with structured distillation: PI + PA + HO, the discriminator narrow as the networks."""

_base_ = ['./fpn_r18-w8_street-scenes.py', '../_base_/recipes/skd.py']

_base_.distiller.objectives.holistic.discriminator = dict(channels=16)
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::demo/fpn_lite0_street-scenes.py',
        checkpoint='work_dirs/demo_segmentation/teacher/iter_300.pth',
    ),
    **_base_.distiller,
)
optim_wrapper = _base_.joint_optim_wrapper
default_hooks = dict(random_state=dict(type='kddense.RandomStateHook'))

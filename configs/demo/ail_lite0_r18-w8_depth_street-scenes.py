"""The depth estimator of the demo, taught with attentive imitation: the teacher's depths, and a hint, where it is right."""

_base_ = ['./depth_r18-w8_street-scenes.py', '../_base_/recipes/ail_depth.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::demo/depth_lite0_street-scenes.py',
        checkpoint='work_dirs/demo_depth/teacher/iter_300.pth',
    ),
    **_base_.distiller,
)

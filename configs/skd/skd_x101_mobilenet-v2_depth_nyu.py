"""Structured distillation of depth as in the paper: PA + HO, ResNeXt-101 -> MobileNetV2, classification into bins."""

_base_ = ['./depth_mobilenet-v2-bins_nyu.py', '../_base_/recipes/skd_depth.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/depth_x101-bins_nyu.py',
        checkpoint='work_dirs/depth_x101-bins_nyu/iter_40000.pth',
    ),
    **_base_.distiller,
)
optim_wrapper = _base_.joint_optim_wrapper

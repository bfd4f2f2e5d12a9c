"""Structured distillation of depth on NYU: PA + HO, ResNet-50 -> ResNet-18."""

_base_ = ['./depth_r18_nyu.py', '../_base_/recipes/skd_depth.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/depth_r50_nyu.py',
        checkpoint='work_dirs/depth_r50_nyu/iter_40000.pth',
    ),
    **_base_.distiller,
)
optim_wrapper = _base_.joint_optim_wrapper

"""Structured distillation of depth on KITTI-style folders: PA + HO, ResNet-50 -> ResNet-18."""

_base_ = ['./depth_r18_kitti.py', '../_base_/recipes/skd_depth.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/depth_r50_kitti.py',
        checkpoint='work_dirs/depth_r50_kitti/iter_40000.pth',
    ),
    **_base_.distiller,
)
optim_wrapper = _base_.joint_optim_wrapper

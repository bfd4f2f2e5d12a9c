"""Attentive imitation and hint of depth on NYU, ResNet-50 -> ResNet-18; η as seen so far."""

_base_ = ['../skd/depth_r18_nyu.py', '../_base_/recipes/ail_depth.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/depth_r50_nyu.py',
        checkpoint='work_dirs/depth_r50_nyu/iter_40000.pth',
    ),
    **_base_.distiller,
)

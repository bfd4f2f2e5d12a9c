"""RKD on BCCD: how the RoIs of the quarter-width student lie to each other, from the full ResNet-18."""

_base_ = ['../chen2017/faster-rcnn_r18-w16_fpn_bccd.py', '../_base_/recipes/rkd.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::chen2017/faster-rcnn_r18_fpn_bccd.py',
        checkpoint='work_dirs/bccd/teacher/epoch_36.pth',
    ),
    **_base_.distiller,
)

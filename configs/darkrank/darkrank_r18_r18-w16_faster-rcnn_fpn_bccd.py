"""DarkRank on BCCD: the RoIs of the quarter-width student rank each other as those of the full ResNet-18."""

_base_ = ['../chen2017/faster-rcnn_r18-w16_fpn_bccd.py', '../_base_/recipes/darkrank.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::chen2017/faster-rcnn_r18_fpn_bccd.py',
        checkpoint='work_dirs/bccd/teacher/epoch_36.pth',
    ),
    **_base_.distiller,
)

"""All of Chen et al. 2017 on BCCD: the quarter-width student learns from the full ResNet-18."""

_base_ = ['./faster-rcnn_r18-w16_fpn_bccd.py', '../_base_/recipes/chen2017.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::chen2017/faster-rcnn_r18_fpn_bccd.py',
        checkpoint='work_dirs/bccd/teacher/epoch_36.pth',
        precision='fp32',
    ),
    **_base_.distiller,
)

"""FGFI for Faster R-CNN on BCCD, from a teacher with ImageNet weights; it starts earlier, as the training is short."""

_base_ = ['../chen2017/faster-rcnn_r18-w16_fpn_bccd.py', '../_base_/recipes/fgfi.py']

_base_.distiller.objectives.fgfi.weight.start = 50
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::chen2017/faster-rcnn_lite2_fpn_bccd.py',
        checkpoint='work_dirs/bccd_lite2/teacher/epoch_12.pth',
        precision='fp32',
    ),
    **_base_.distiller,
)

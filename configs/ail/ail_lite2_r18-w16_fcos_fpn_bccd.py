"""Attentive imitation of boxes for FCOS on BCCD, from a teacher with ImageNet weights: EfficientNet-Lite2."""

_base_ = './ail_r18_r18-w16_fcos_fpn_bccd.py'

model = dict(
    teacher=dict(
        config='kddense::skd/fcos_lite2_fpn_bccd.py',
        checkpoint='work_dirs/bccd_fcos_lite2/teacher/epoch_12.pth',
    ),
)

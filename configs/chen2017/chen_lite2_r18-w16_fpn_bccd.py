"""All of Chen et al. 2017 on BCCD, from a teacher with ImageNet weights: EfficientNet-Lite2."""

_base_ = './chen_r18_r18-w16_fpn_bccd.py'

model = dict(
    teacher=dict(
        config='kddense::chen2017/faster-rcnn_lite2_fpn_bccd.py',
        checkpoint='work_dirs/bccd_lite2/teacher/epoch_12.pth',
    ),
)

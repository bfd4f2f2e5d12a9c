"""CrossKD on COCO: ATSS with ResNet-50 learns from ResNet-101."""

_base_ = ['mmdet::atss/atss_r50_fpn_1x_coco.py', '../_base_/recipes/crosskd.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::atss/atss_r101_fpn_1x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/atss/atss_r101_fpn_1x_coco/atss_r101_fpn_1x_20200825-dfcadd6f.pth',
    ),
    **_base_.distiller,
)

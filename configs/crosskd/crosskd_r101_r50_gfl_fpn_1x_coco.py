"""CrossKD on COCO: GFL with ResNet-50 learns from ResNet-101."""

_base_ = ['mmdet::gfl/gfl_r50_fpn_1x_coco.py', '../_base_/recipes/crosskd_gfl.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/gfl/gfl_r101_fpn_mstrain_2x_coco/gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth',
    ),
    **_base_.distiller,
)

"""Localization distillation on COCO: GFL with ResNet-18 learns from ResNet-50."""

_base_ = ['./gfl_r18_fpn_1x_coco.py', '../_base_/recipes/ld.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::gfl/gfl_r50_fpn_ms-2x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/gfl/gfl_r50_fpn_mstrain_2x_coco/gfl_r50_fpn_mstrain_2x_coco_20200629_213802-37bb1edc.pth',
    ),
    **_base_.distiller,
)

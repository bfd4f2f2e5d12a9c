"""The DAB-DETR student with ResNet-18 on COCO, without distillation."""

_base_ = 'mmdet::dab_detr/dab-detr_r50_8xb2-50e_coco.py'

model = dict(
    backbone=dict(depth=18, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(in_channels=[512]),
)

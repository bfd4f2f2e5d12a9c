"""The Deformable DETR teacher with ResNet-101 on COCO, which mmdet's model zoo does not have."""

_base_ = 'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py'

model = dict(backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101')))

"""A smaller FCOS student on COCO, without distillation: ResNet-18."""

_base_ = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(
        depth=18, style='pytorch', init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18', _delete_=True)
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)

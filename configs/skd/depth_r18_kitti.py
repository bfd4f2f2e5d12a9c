"""The student on KITTI-style folders, without distillation: a depth estimator on a ResNet-18."""

_base_ = './depth_r50_kitti.py'

model = dict(
    pretrained='torchvision://resnet18',
    backbone=dict(depth=18),
    decode_head=dict(decoder=dict(in_channels=[64, 128, 256, 512])),
)

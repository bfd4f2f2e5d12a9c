"""The student on NYU at 480x640, without distillation: a depth estimator on a ResNet-18."""

_base_ = './depth_r50_nyu.py'

model = dict(
    pretrained='torchvision://resnet18',
    backbone=dict(depth=18),
    decode_head=dict(decoder=dict(in_channels=[64, 128, 256, 512])),
)

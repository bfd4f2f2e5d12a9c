"""The teacher on NYUv2: a full ResNet-18."""

_base_ = './depth_r18-w16_nyuv2.py'

model = dict(
    backbone=dict(base_channels=64, stem_channels=64),
    decode_head=dict(decoder=dict(in_channels=[64, 128, 256, 512], channels=128)),
)

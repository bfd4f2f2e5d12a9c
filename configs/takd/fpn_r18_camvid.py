"""A semantic FPN on a full ResNet-18, CamVid: the largest of the assistants, and the end from which others are made."""

_base_ = '../skd/fpn_r18-w16_camvid.py'

model = dict(
    backbone=dict(base_channels=64, stem_channels=64),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64),
    decode_head=dict(in_channels=[64] * 4, channels=64),
)

"""The teacher on NYUv2: a full ResNet-18, trained longer than the students."""

_base_ = './depth_r18-w8_nyuv2.py'

model = dict(
    backbone=dict(base_channels=64, stem_channels=64),
    decode_head=dict(decoder=dict(in_channels=[64, 128, 256, 512], channels=128)),
)

max_iters = 2000
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, by_epoch=False, begin=50, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))

"""The teacher of the demo's depth estimator: three times as wide, and trained longer."""

_base_ = './depth_r18-w8_street-scenes.py'

model = dict(
    backbone=dict(base_channels=24, stem_channels=24),
    decode_head=dict(decoder=dict(in_channels=[24, 48, 96, 192], channels=48)),
)

max_iters = 500
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, by_epoch=False, begin=50, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=500)

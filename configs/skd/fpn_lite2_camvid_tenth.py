"""The teacher on CamVid, which has seen every tenth label too: EfficientNet-Lite2 with ImageNet weights."""

_base_ = './fpn_lite2_camvid.py'

max_iters = 350
train_dataloader = dict(dataset=dict(indices=list(range(0, 367, 10))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, by_epoch=False, begin=50, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))

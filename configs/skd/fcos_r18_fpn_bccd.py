"""The FCOS teacher on BCCD: a full ResNet-18, trained longer than the students."""

_base_ = './fcos_r18-w16_fpn_bccd.py'

model = dict(backbone=dict(base_channels=64), neck=dict(in_channels=[64, 128, 256, 512]))

train_dataloader = dict(batch_size=8)
train_cfg = dict(max_epochs=24, val_interval=24)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=24, end=24, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=24))

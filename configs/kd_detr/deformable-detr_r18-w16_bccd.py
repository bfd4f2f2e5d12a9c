"""The Deformable DETR student on BCCD, undistilled: a ResNet-18 a quarter as wide, 12 epochs from random weights."""

_base_ = [
    '../_base_/models/deformable-detr_small.py',
    '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/bccd_8e.py',
]

train_dataloader = dict(batch_size=4)
train_cfg = dict(max_epochs=12, val_interval=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=12, end=12, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=12))

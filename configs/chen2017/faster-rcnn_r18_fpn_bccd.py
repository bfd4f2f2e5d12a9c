"""The teacher on BCCD: a full ResNet-18, trained longer than the students."""

_base_ = './faster-rcnn_r18-w16_fpn_bccd.py'

model = dict(
    backbone=dict(base_channels=64),
    neck=dict(in_channels=[64, 128, 256, 512]),
    roi_head=dict(bbox_head=dict(fc_out_channels=1024)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=128))),
)

train_dataloader = dict(batch_size=8)
train_cfg = dict(max_epochs=36, val_interval=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=36, end=36, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=36))

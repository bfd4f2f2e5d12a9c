"""The teacher of the demo: half as wide again as the student, and trained longer."""

_base_ = './faster-rcnn_r18-w16_street-scenes.py'

model = dict(
    backbone=dict(base_channels=24),
    neck=dict(in_channels=[24, 48, 96, 192]),
    roi_head=dict(bbox_head=dict(fc_out_channels=512)),
)

max_epochs = 6
train_cfg = dict(max_epochs=max_epochs, val_interval=6)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=max_epochs, end=max_epochs, convert_to_iter_based=True
    ),
]

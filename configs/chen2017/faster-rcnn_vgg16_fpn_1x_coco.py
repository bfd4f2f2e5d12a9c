"""A VGG16 teacher for COCO. It has no batch normalisation, so it trains at a quarter of the rate, clipped."""

_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True,
        type='kddense.VGG',
        depth=16,
        frozen_stages=2,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://vgg16'),
    ),
    neck=dict(in_channels=[128, 256, 512, 512]),
)
optim_wrapper = dict(optimizer=dict(lr=0.005), clip_grad=dict(max_norm=35))

"""Another student on Cityscapes, without distillation: PSPNet-MobileNetV2, on crops and a schedule as for ResNet-18."""

_base_ = './pspnet_r18_512x512_cityscapes.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    pretrained='mmcls://mobilenet_v2',
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        widen_factor=1.0,
        strides=(1, 2, 2, 1, 1, 1, 1),
        dilations=(1, 1, 1, 2, 2, 4, 4),
        out_indices=(1, 2, 4, 6),
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(in_channels=320),
    auxiliary_head=dict(in_channels=96),
)

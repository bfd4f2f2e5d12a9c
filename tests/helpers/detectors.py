"""Tiny one-stage detectors of mmdet, one of each head that kddense reads."""

from __future__ import annotations

from mmengine.config import ConfigDict

from . import tiny

STOCK = {
    'retinanet': 'mmdet::_base_/models/retinanet_r50_fpn.py',
    'fcos': 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'atss': 'mmdet::atss/atss_r50_fpn_1x_coco.py',
    'gfl': 'mmdet::gfl/gfl_r50_fpn_1x_coco.py',
    'rtmdet': 'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py',
}
HEADS = tuple(STOCK)


def one_stage(head, *changes, width=8, fpn=16, classes=3):
    """Return a detector with one of the five heads: an FPN with five levels, or three for RTMDet, on a narrow ResNet-18."""
    layers, channels = tiny.backbone('resnet', width)
    norm = dict(type='BN') if head == 'rtmdet' else dict(type='GN', num_groups=4, requires_grad=True)
    levels = [8, 16, 32] if head == 'rtmdet' else [8, 16, 32, 64, 128]
    config = tiny._stock(STOCK[head])
    config = tiny.edit(
        config,
        {
            'bbox_head.in_channels': fpn,
            'bbox_head.feat_channels': 16,
            'bbox_head.stacked_convs': 1,
            'bbox_head.num_classes': classes,
            **({} if head == 'retinanet' else {'bbox_head.norm_cfg': norm}),
            'data_preprocessor.pad_size_divisor': 32,
            'data_preprocessor.batch_augments': None,
        },
    )
    config.backbone = ConfigDict(layers)
    config.neck = ConfigDict(
        type='FPN',
        in_channels=channels,
        out_channels=fpn,
        start_level=1,
        add_extra_convs='on_output' if len(levels) > 3 else False,
        num_outs=len(levels),
    )
    return tiny.edit(config, *changes)

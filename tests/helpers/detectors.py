"""Tiny detectors of mmdet: one of each dense head that kddense reads, and one of each family that is exported whole."""

from __future__ import annotations

import torch
from mmengine.config import ConfigDict
from torch import nn

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


FAMILIES = {
    **{head: lambda *changes, head=head: one_stage(head, *changes) for head in HEADS},
    'faster_rcnn': tiny.faster_rcnn,
    'mask_rcnn': tiny.mask_rcnn,
    'cascade_rcnn': tiny.cascade_rcnn,
    'c4': tiny.c4,
}


def outspoken(config):
    """Build a detector whose scores pass its threshold and whose boxes are far from its anchors."""
    model = tiny.build(config).eval()
    tiny.shake(model)
    random = torch.Generator().manual_seed(0)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and name.endswith(('cls', 'conv_cls', 'retina_cls', 'cls_convs')):
            layer.bias.data.fill_(-1.0)
        if isinstance(layer, nn.Linear) and name.endswith(('fc_cls', 'fc_reg')):
            layer.weight.data += torch.randn(layer.weight.shape, generator=random) * 0.3
        if isinstance(layer, nn.Conv2d) and name.rpartition('.')[2] in ('0', '1', '2') and layer.out_channels == 3:
            layer.bias.data.fill_(-1.0)  # RTMDet's
    return model

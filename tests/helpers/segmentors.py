"""More tiny segmentors of mmseg than :mod:`tests.tiny` has, and ears on their heads that know nothing of kddense."""

from __future__ import annotations

import copy

from torch import nn

from . import tiny

NORM = dict(type='BN', requires_grad=True)
WIDTHS = [8, 16, 32, 64]  # of tiny's ResNet


def _without_sync(config):
    for key, value in config.items():
        if key == 'norm_cfg' and value and value.get('type') == 'SyncBN':
            config[key] = NORM
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, dict):
                _without_sync(child)


def _stock(name, *changes):
    config = copy.deepcopy(tiny._stock(f'mmseg::_base_/models/{name}.py'))
    config.pretrained = None
    config.data_preprocessor.size_divisor = 32
    _without_sync(config)
    return tiny.edit(config, *changes)


def fast_scnn(*changes, classes=5):
    """Return Fast-SCNN: stride 8, a list of two auxiliary heads, and sigmoid losses."""
    return _stock(
        'fast_scnn',
        {
            'backbone.downsample_dw_channels': (8, 12),
            'backbone.global_in_channels': 16,
            'backbone.global_block_channels': (16, 24, 32),
            'backbone.global_out_channels': 32,
            'backbone.higher_in_channels': 16,
            'backbone.lower_in_channels': 32,
            'backbone.fusion_out_channels': 32,
            'decode_head.in_channels': 32,
            'decode_head.channels': 16,
            'decode_head.num_classes': classes,
            'auxiliary_head.0.in_channels': 32,
            'auxiliary_head.0.channels': 8,
            'auxiliary_head.0.num_classes': classes,
            'auxiliary_head.1.in_channels': 16,
            'auxiliary_head.1.channels': 12,
            'auxiliary_head.1.num_classes': classes,
        },
        *changes,
    )


def segformer(*changes, classes=5):
    """Return SegFormer: stride 4, a transformer."""
    return _stock(
        'segformer_mit-b0',
        {
            'backbone.embed_dims': 8,
            'backbone.num_layers': [1, 1, 1, 1],
            'backbone.num_heads': [1, 2, 4, 8],
            'decode_head.in_channels': WIDTHS,
            'decode_head.channels': 16,
            'decode_head.num_classes': classes,
        },
        *changes,
    )


def upernet(*changes, **options):
    """Return UPerNet: stride 4."""
    return tiny.segmentor('upernet_r50', {'decode_head.in_channels': WIDTHS}, *changes, **options)


def encnet(*changes, **options):
    """Return EncNet, whose head returns two things."""
    few = {'decode_head.in_channels': WIDTHS[1:], 'decode_head.num_codes': 4}
    return tiny.segmentor('encnet_r50-d8', few, *changes, **options)


def pointrend(*changes, **options):
    """Return PointRend: a head of maps, then one of points."""
    return tiny.segmentor(
        'pointrend_r50',
        {
            'backbone.strides': (1, 2, 2, 2),
            'backbone.dilations': (1, 1, 1, 1),
            'neck.in_channels': WIDTHS,
            'neck.out_channels': 16,
            'decode_head.0.in_channels': [16] * 4,
            'decode_head.1.in_channels': [16],
            'decode_head.1.norm_cfg': None,
            'train_cfg.num_points': 32,
        },
        *changes,
        **options,
    )


def lraspp(*changes, classes=5):
    """Return LRASPP, which pools over 49 x 49 cells, so that small images do not do."""
    return _stock(
        'lraspp_m-v3-d8',
        {
            'backbone.arch': 'small',
            'backbone.out_indices': (0, 1, 12),
            'decode_head.in_channels': (16, 16, 576),
            'decode_head.channels': 16,
            'decode_head.num_classes': classes,
        },
        *changes,
    )


def segmenter(classes=5):
    """Return Segmenter: its masks are products of tokens, not of a classifier."""
    return _stock(
        'segmenter_vit-b16_mask',
        {
            'backbone.img_size': (64, 64),
            'backbone.embed_dims': 16,
            'backbone.num_layers': 1,
            'backbone.num_heads': 2,
            'decode_head.in_channels': 16,
            'decode_head.channels': 16,
            'decode_head.embed_dims': 16,
            'decode_head.num_heads': 2,
            'decode_head.num_layers': 1,
            'decode_head.num_classes': classes,
        },
    )


def mobilenet(*changes, **options):
    """Return PSPNet on a MobileNetV2 of stride 32."""
    config = tiny.segmentor('pspnet_r50-d8', **options)
    config.backbone = dict(type='mmseg.MobileNetV2', widen_factor=0.25, out_indices=(1, 2, 4, 6), norm_cfg=NORM)
    return tiny.edit(config, {'decode_head.in_channels': 80, 'auxiliary_head.in_channels': 24}, *changes)


def last_head(model):
    """Return the head that classifies pixels."""
    return model.decode_head[-1] if isinstance(model.decode_head, nn.ModuleList) else model.decode_head


def listen(head):
    """Return what a head's own layers show from now on, a list for all runs: features before dropout, and logits."""
    heard = dict(feature=[], logits=[])
    first = head.conv_seg if head.dropout is None else head.dropout
    first.register_forward_pre_hook(lambda module, arguments: heard['feature'].append(arguments[0]))
    head.conv_seg.register_forward_hook(lambda module, arguments, logits: heard['logits'].append(logits))
    return heard

"""Tiny detectors of mmdet that work with queries."""

from __future__ import annotations

from mmengine.config import ConfigDict

from . import tiny


def deformable_detr(width=8, dim=16, *changes):
    """Return Deformable DETR with one layer of encoder, two of decoder, and ten queries."""
    layers, channels = tiny.backbone('resnet', width)
    layers['out_indices'] = (1, 2, 3)
    attention = {'embed_dims': dim, 'num_levels': 3, 'num_heads': 4}
    config = tiny.edit(
        tiny._stock('mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py'),
        {
            'num_queries': 10,
            'num_feature_levels': 3,
            'neck.in_channels': channels[1:],
            'neck.out_channels': dim,
            'neck.num_outs': 3,
            'neck.norm_cfg': dict(type='GN', num_groups=4),
            'encoder.num_layers': 1,
            'decoder.num_layers': 2,
            'bbox_head.num_classes': 3,
            'bbox_head.embed_dims': dim,
            'positional_encoding.num_feats': dim // 2,
            **{f'encoder.layer_cfg.self_attn_cfg.{key}': value for key, value in attention.items()},
            **{f'decoder.layer_cfg.cross_attn_cfg.{key}': value for key, value in attention.items()},
            'decoder.layer_cfg.self_attn_cfg.embed_dims': dim,
            'decoder.layer_cfg.self_attn_cfg.num_heads': 4,
            **{f'{part}.layer_cfg.ffn_cfg.embed_dims': dim for part in ('encoder', 'decoder')},
            **{f'{part}.layer_cfg.ffn_cfg.feedforward_channels': 32 for part in ('encoder', 'decoder')},
        },
        *changes,
    )
    config.backbone = ConfigDict(layers)
    return config

"""Tiny models of mmdet that draw masks, and one-stage detectors that :mod:`tests.helpers.detectors` has not."""

from __future__ import annotations

import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData

from . import stock_models, tiny

GROUPS = dict(type='GN', num_groups=4, requires_grad=True)


def with_fpn(path, *changes, width=8):
    """Return a model of mmdet on a narrow ResNet-18 with an FPN of 16 channels."""
    layers, channels = tiny.backbone('resnet', width)
    neck = {'neck.in_channels': channels, 'neck.out_channels': 16}
    config = tiny.edit(tiny._stock(f'mmdet::{path}.py'), neck, *changes)
    config.backbone = ConfigDict(layers)
    return config


def dense(path, *changes, **options):
    """Return a one-stage detector of three classes."""
    head = dict(in_channels=16, feat_channels=16, stacked_convs=1, num_classes=3, norm_cfg=GROUPS)
    return with_fpn(path, {f'bbox_head.{key}': value for key, value in head.items()}, *changes, **options)


def solo(**options):
    head = dict(
        in_channels=16,
        feat_channels=16,
        stacked_convs=1,
        num_classes=3,
        norm_cfg=GROUPS,
        num_grids=[8, 6, 5, 4, 3],
        cls_down_index=0,
    )
    return with_fpn('solo/solo_r50_fpn_1x_coco', {f'mask_head.{key}': value for key, value in head.items()}, **options)


def condinst(**options):
    mask = dict(in_channels=16, feat_channels=8, norm_cfg=dict(type='BN'), num_stacked_convs=1)
    changes = {f'mask_head.mask_feature_head.{key}': value for key, value in mask.items()}
    return dense('condinst/condinst_r50_fpn_ms-poly-90k_coco_instance', changes, **options)


def mask2former(width=8, dim=16):
    layers, channels = tiny.backbone('resnet', width)
    head = 'panoptic_head'
    layer = f'{head}.transformer_decoder.layer_cfg'
    pixel = f'{head}.pixel_decoder'
    config = tiny.edit(
        tiny._stock('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'),
        {
            'data_preprocessor.batch_augments': None,
            f'{head}.in_channels': channels,
            f'{head}.feat_channels': dim,
            f'{head}.out_channels': dim,
            f'{head}.num_queries': 8,
            f'{head}.num_things_classes': 3,
            f'{head}.loss_cls.class_weight': [1.0] * 3 + [0.1],
            f'{head}.positional_encoding.num_feats': dim // 2,
            f'{pixel}.norm_cfg': GROUPS,
            f'{pixel}.positional_encoding.num_feats': dim // 2,
            f'{pixel}.encoder.num_layers': 1,
            f'{pixel}.encoder.layer_cfg.self_attn_cfg.embed_dims': dim,
            f'{pixel}.encoder.layer_cfg.self_attn_cfg.num_heads': 4,
            f'{pixel}.encoder.layer_cfg.ffn_cfg.embed_dims': dim,
            f'{pixel}.encoder.layer_cfg.ffn_cfg.feedforward_channels': dim,
            f'{head}.transformer_decoder.num_layers': 2,
            f'{layer}.self_attn_cfg.embed_dims': dim,
            f'{layer}.self_attn_cfg.num_heads': 4,
            f'{layer}.cross_attn_cfg.embed_dims': dim,
            f'{layer}.cross_attn_cfg.num_heads': 4,
            f'{layer}.ffn_cfg.embed_dims': dim,
            f'{layer}.ffn_cfg.feedforward_channels': dim,
            'panoptic_fusion_head.num_things_classes': 3,
            'train_cfg.num_points': 64,
        },
    )
    config.backbone = ConfigDict(layers)
    return config


def _few_queries(path, head, *changes):
    config = stock_models.small_model(path)
    return tiny.edit(config, {f'{head}.num_queries': 9, f'{head}.transformer_decoder.num_layers': 2}, *changes)


def maskformer():
    return _few_queries('mmdet::maskformer/maskformer_r50_ms-16xb1-75e_coco.py', 'panoptic_head')


def mask_segmentor(*changes):
    path = 'mmseg::mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py'
    return _few_queries(path, 'decode_head', {'decode_head.train_cfg.num_points': 64}, *changes)


def old_mask_segmentor():
    return _few_queries('mmseg::maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py', 'decode_head')


def panoptic_fpn(*changes):
    config = stock_models.small_model('mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py')
    return tiny.edit(config, *changes)


def panoptic_data(sizes=((64, 64), (48, 60)), **options):
    data = tiny.detection_data(sizes=sizes, masks=True, **options)
    for number, sample in enumerate(data['data_samples']):
        random = torch.Generator().manual_seed(number)
        labels = torch.randint(0, 133, (1, *sample.img_shape), generator=random)
        labels[:, :5] = 255
        sample.gt_sem_seg = PixelData(sem_seg=labels)
    return data

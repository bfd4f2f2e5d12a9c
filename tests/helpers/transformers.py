"""Tiny detectors of mmdet that work with queries."""

from __future__ import annotations

import torch
from mmengine.config import ConfigDict

from . import tiny

FAMILY = {
    'detr': 'detr/detr_r50_8xb2-150e_coco',
    'conditional': 'conditional_detr/conditional-detr_r50_8xb2-50e_coco',
    'dab': 'dab_detr/dab-detr_r50_8xb2-50e_coco',
    'deformable': 'deformable_detr/deformable-detr_r50_16xb2-50e_coco',
    'deformable two-stage': 'deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco',
    'dino': 'dino/dino-4scale_r50_8xb2-12e_coco',
}
WIDE = ('conditional', 'deformable two-stage', 'dino')  # they encode positions in 256 numbers, whatever their own width


def detr(name, width=8, *changes):
    """Return a detector of the family with one layer of encoder, two of decoder, and ten queries."""
    dim = 256 if name in WIDE else 16
    layers, channels = tiny.backbone('resnet', width)
    several = name in ('deformable', 'deformable two-stage', 'dino')
    layers['out_indices'] = (1, 2, 3) if several else (3,)
    config = tiny.edit(
        tiny._stock(f'mmdet::{FAMILY[name]}.py'),
        {
            'num_queries': 10,
            'neck.in_channels': channels[1:] if several else channels[3:],
            'neck.out_channels': dim,
            'neck.num_outs': 3 if several else 1,
            **({'num_feature_levels': 3, 'neck.norm_cfg': dict(type='GN', num_groups=4)} if several else {}),
            'encoder.num_layers': 1,
            'decoder.num_layers': 2,
            'bbox_head.num_classes': 3,
            'bbox_head.embed_dims': dim,
            'positional_encoding.num_feats': dim // 2,
            **_attention('encoder', 'self_attn_cfg', dim, several),
            **_attention('decoder', 'self_attn_cfg', dim, False),
            **_attention('decoder', 'cross_attn_cfg', dim, several),
            **{f'{part}.layer_cfg.ffn_cfg.embed_dims': dim for part in ('encoder', 'decoder')},
            **{f'{part}.layer_cfg.ffn_cfg.feedforward_channels': 32 for part in ('encoder', 'decoder')},
        },
        *changes,
    )
    config.backbone = ConfigDict(layers)
    return config


def _attention(part, name, dim, several):
    settings = {'embed_dims': dim, 'num_heads': 4, **({'num_levels': 3} if several else {})}
    return {f'{part}.layer_cfg.{name}.{key}': value for key, value in settings.items()}


def distiller(student, teacher, objectives, **options):
    """Build a distiller."""
    model = tiny.distiller(student, teacher, objectives, **options)
    draw_levels(model.student, *(each.model for each in model.teachers.values()))
    return model


def draw_levels(*models):
    """Draw what tells levels apart: mmdet leaves it as the memory was, until weights are initialised."""
    for one in models:
        if hasattr(one, 'level_embed'):
            torch.nn.init.normal_(one.level_embed)


def taught(objective, student='dab', teacher=None, *changes, **options):
    """Build a student of the family with one objective ``x``, and a teacher twice as wide: of its own kind by default."""
    teacher = detr(student if teacher is None else teacher, 16, *changes)
    return distiller(detr(student), tiny.teacher_of(teacher, **options), dict(x=objective))


def own_losses(losses):
    """Return the losses of the objective ``x``, by their own names."""
    return {name.removeprefix('distill.x.'): value for name, value in losses.items() if name.startswith('distill.x.')}

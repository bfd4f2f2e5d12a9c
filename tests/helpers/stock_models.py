"""Stock models of mmdet and mmseg, all made small in one way."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config

from . import tiny

SHARE = 8  # by how much every width is divided
IMAGE = 64  # of backbones that take one size of image
WIDTHS = ('channels', 'embed_dims', 'embed_dim', 'num_feats', 'num_features', 'feat_dim', 'dims', 'inplanes')
NARROW = ('ResNet', 'ResNetV1d', 'ResNetV1c', 'TridentResNet', 'DetectoRS_ResNet')
MOST = dict(num=48, nms_pre=60, max_per_img=40)  # samples, and proposals
# By how much the widths are divided of what has widths of its own.
SHARES = {'EfficientNet': 1, 'MobileNetV3': 1, 'ResLayer': 4, 'VPDDepthHead': 4}
# Parts that need packages that are not here, and are no heads.
STAND_INS = {
    'BoxInstDataPreprocessor': dict(type='DetDataPreprocessor'),  # scikit-image
    'VPD': dict(type='ResNet', depth=18, base_channels=8),  # Stable Diffusion
}


@functools.cache
def stock_config(path: str) -> Config:
    """Return a stock config, ``'package::path'``."""
    return get_config(path)


def small_model(path: str, share: int = SHARE) -> ConfigDict:
    """Return the model of a stock config, with an eighth of its widths, and nothing that is downloaded.

    Args:
        path: ``'package::path'``.
        share: By how much every width is divided; 1 to leave them.
    """
    config = stock_config(path)
    model = copy.deepcopy(config.model)
    if config.get('data_preprocessor') and 'data_preprocessor' not in model:
        model.data_preprocessor = copy.deepcopy(config.data_preprocessor)
    if model.get('data_preprocessor'):
        model.data_preprocessor.pop('batch_augments', None)
        if 'size' in model.data_preprocessor:
            model.data_preprocessor.update(size=None, size_divisor=32)
    teacher = model.get('teacher_config')
    small = _small(model, min([share, *(SHARES[name] for name in _types(model) & SHARES.keys())]))
    if isinstance(teacher, str):  # of mmdet's own distillation, from the root of its repository
        small.teacher_config = dict(model=small_model(teacher.replace('configs/', 'mmdet::'), share))
    return small


def types_of(path: str) -> set[str]:
    """Return the names of all classes that the model of a stock config is built of."""
    return _types(stock_config(path).model)


def _types(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node['type'].rpartition('.')[2]} if isinstance(node.get('type'), str) else set()
        return own.union(*map(_types, node.values()))
    return set().union(*map(_types, node)) if isinstance(node, (list, tuple)) else set()


def _small(node: Any, share: int, key: str = '') -> Any:
    if isinstance(node, dict):
        if node.get('type') in STAND_INS:
            return type(node)(STAND_INS[node['type']])
        made = type(node)({name: _small(value, share, name) for name, value in node.items()})
        if made.get('type') in NARROW and share > 1:
            made.setdefault('base_channels', 64 // share)
            if made.type == 'ResNetV1c':
                made.setdefault('stem_channels', 64 // share)
        if made.get('type') == 'ResLayer':
            made['stage'] -= share.bit_length() - 1  # each stage is twice as wide as the one before
        if 'widen_factor' in made:
            made['widen_factor'] /= share
        if made.get('type') == 'SyncBN':
            made['type'] = 'BN'
        if made.get('type') == 'GN' and share > 1:
            made['num_groups'] = 2
        for name, most in MOST.items():
            if isinstance(made.get(name), int):
                made[name] = min(made[name], most)
        if 'img_size' in made:
            made['img_size'] = (IMAGE, IMAGE)
        for name in ('init_cfg', 'pretrained', 'teacher_ckpt'):
            if name in made:
                made[name] = None
        return made
    if isinstance(node, (list, tuple)):
        return type(node)(_small(value, share, key) for value in node)
    is_width = isinstance(node, int) and not isinstance(node, bool) and key.endswith(WIDTHS) and node >= 16
    return max(node // share, 2) if is_width else node


@contextmanager
def weights_as_they_come() -> Iterator[None]:
    """Context manager: new weights are zeros or what the memory holds; drawing random ones is most of building."""
    with pytest.MonkeyPatch.context() as patch:
        for draw in ('uniform_', 'normal_'):
            patch.setattr(torch.Tensor, draw, lambda weight, *_, **__: weight)
        yield


def build(model: dict[str, Any], scope: str) -> Any:
    """Build a model in the scope of its package."""
    return tiny.build(copy.deepcopy(model), scope=scope)

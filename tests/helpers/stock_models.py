"""Stock models of mmdet and mmseg, all made small in one way."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hub import get_config

from . import tiny

SHARE = 8  # by how much every width is divided
WIDTHS = ('channels', 'embed_dims', 'embed_dim', 'num_feats', 'num_features', 'feat_dim', 'dims')
NARROW = ('ResNet', 'ResNetV1d', 'ResNetV1c', 'TridentResNet', 'DetectoRS_ResNet')


def small_model(path: str, share: int = SHARE) -> ConfigDict:
    """Return the model of a stock config, with an eighth of its widths, and nothing that is downloaded.

    Args:
        path: ``'package::path'``.
        share: By how much every width is divided; 1 to leave them.
    """
    config = get_config(path)
    model = copy.deepcopy(config.model)
    if config.get('data_preprocessor') and 'data_preprocessor' not in model:
        model.data_preprocessor = copy.deepcopy(config.data_preprocessor)
    if model.get('data_preprocessor'):
        model.data_preprocessor.pop('batch_augments', None)
        if 'size' in model.data_preprocessor:
            model.data_preprocessor.update(size=None, size_divisor=32)
    return _small(model, share)


def _small(node: Any, share: int, key: str = '') -> Any:
    if isinstance(node, dict):
        made = type(node)({name: _small(value, share, name) for name, value in node.items()})
        if made.get('type') in NARROW and share > 1:
            made.setdefault('base_channels', 64 // share)
            if made.type == 'ResNetV1c':
                made.setdefault('stem_channels', 64 // share)
        if made.get('type') == 'SyncBN':
            made['type'] = 'BN'
        if made.get('type') == 'GN' and share > 1:
            made['num_groups'] = 2
        for name in ('init_cfg', 'pretrained'):
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

"""Stock models of mmdet and mmseg, all made small in one way, so that every kind of head can be built and trained a step."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict
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


def batch_for(package: str, size: int = 128) -> dict[str, Any]:
    """Return a batch of two random images, with boxes, masks and a map of classes."""
    images = [torch.randint(0, 256, (3, size, size)).byte() for _ in range(2)]
    return dict(inputs=images, data_samples=[_sample(package, size) for _ in images])


def _sample(package: str, size: int) -> Any:
    from mmengine.structures import InstanceData, PixelData

    meta = dict(
        img_id=0, img_shape=(size, size), ori_shape=(size, size), pad_shape=(size, size), scale_factor=(1.0, 1.0)
    )
    meta.update(batch_input_shape=(size, size), flip=False)
    classes = PixelData(data=torch.randint(0, 2, (1, size, size)))
    if package == 'mmseg':
        from mmseg.structures import SegDataSample

        edges = PixelData(data=torch.randint(0, 2, (1, size, size)))
        depth = PixelData(data=torch.rand(1, size, size) + 0.5)
        return SegDataSample(metainfo=meta, gt_sem_seg=classes, gt_edge_map=edges, gt_depth_map=depth)
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    boxes = torch.tensor([[8.0, 10.0, size - 30.0, size - 20.0], [size / 3, 4.0, size / 2, size / 2]])
    masks = torch.zeros(2, size, size).byte().numpy()
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    truth = InstanceData(bboxes=boxes, labels=torch.tensor([0, 1]), masks=BitmapMasks(masks, size, size))
    nothing = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    return DetDataSample(
        metainfo=meta, gt_instances=truth, ignored_instances=nothing, gt_sem_seg=PixelData(sem_seg=classes.data)
    )


def config_of(student: Any, teacher: Any, scope: str, objectives: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a distiller."""
    whole = Config(dict(model=teacher, default_scope=scope))
    return dict(
        type='kddense.Distiller', student=student, teacher=dict(config=whole, checkpoint=None), objectives=objectives
    )

"""Batches seen in a mirror: images and labels from right to left, padding where it was."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from mmengine.structures import PixelData
from torch import Tensor

from kddense.exchange import Batch


def mirrored(batch: Batch) -> Batch:
    """Return a batch whose images, boxes, masks and maps of labels are mirrored from left to right.

    Args:
        batch: Of any family of mmdet or mmseg; it stays as it is.
    """
    samples = [_mirrored_sample(sample) for sample in batch.data_samples]
    return replace(batch, inputs=mirrored_images(batch.inputs.detach(), batch.data_samples), data_samples=samples)


def mirrored_images(images: Tensor, data_samples: list[Any]) -> Tensor:
    """Mirror padded images, or gradients by them, ``(N, C, H, W)``, each inside its own size; gradients flow through."""
    return torch.stack(
        [_mirrored_map(image, _size_of(sample, image)) for image, sample in zip(images, data_samples, strict=True)]
    )


def _size_of(sample: Any, image: Tensor) -> tuple[int, int]:
    height, width = sample.metainfo.get('img_shape', image.shape[-2:])[:2]
    return min(height, image.shape[-2]), min(width, image.shape[-1])


def _mirrored_map(values: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    columns = torch.arange(values.shape[-1], device=values.device)
    columns = torch.where(columns < width, width - 1 - columns, columns)
    rows = torch.arange(values.shape[-2], device=values.device) < height
    return torch.where(rows[:, None], values[..., columns], values)


def _mirrored_sample(sample: Any) -> Any:
    other = copy.deepcopy(sample)
    size = tuple(other.metainfo['img_shape'][:2])
    for _, value in other.all_items():
        if isinstance(value, PixelData):
            value.data = _mirrored_map(value.data, size)
        elif hasattr(value, 'bboxes'):
            _mirror_instances(value, size)
    return other


def _mirror_instances(instances: Any, size: tuple[int, int]) -> None:
    if hasattr(instances.bboxes, 'flip_'):
        instances.bboxes.flip_(size, 'horizontal')
    else:
        left, right = instances.bboxes[:, 0], instances.bboxes[:, 2]
        instances.bboxes = torch.stack(
            [size[1] - right, instances.bboxes[:, 1], size[1] - left, instances.bboxes[:, 3]], dim=1
        )
    if 'masks' in instances:
        instances.masks = _mirrored_masks(instances.masks, size)


def _mirrored_masks(masks: Any, size: tuple[int, int]) -> Any:
    if isinstance(masks.masks, list):  # polygons
        flipped = type(masks)(masks.masks, *size).flip('horizontal')
        return type(masks)(flipped.masks, masks.height, masks.width)
    array = torch.from_numpy(masks.to_ndarray())
    return type(masks)(_mirrored_map(array, size).numpy(), masks.height, masks.width)

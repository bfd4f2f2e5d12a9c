"""Features of boxes, each of the level of a pyramid that suits its size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CELLS = 14  # a box of so many places of a level, or of up to twice as many, is looked at there


def finest_stride(maps: Sequence[Tensor], width: int) -> float:
    """Return the stride of the finest level of an image of a width in pixels."""
    return width / max(level.shape[-1] for level in maps)


def level_of(boxes: Tensor, levels: int, stride: float) -> Tensor:
    """Return which level of a pyramid suits each box, int64, ``(M,)``.

    Args:
        boxes: Corners in pixels, ``(M, 4)``.
        levels: How many there are.
        stride: Of the finest one.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).clamp(min=1).sqrt()
    return (sides / (CELLS * stride)).log2().floor().clamp(0, levels - 1).long()


def level_crops(
    maps: Sequence[Tensor], boxes: Tensor, width: int, stride: float, cells: int = 7
) -> tuple[list[Tensor], Tensor]:
    """Return what the levels hold of boxes, level by level, and how to bring them into the order of the boxes.

    Args:
        maps: Levels ``(N, C, h, w)``, the finest first.
        boxes: Index of the image and corners in pixels, ``(M, 5)``.
        width: Of the input, in pixels.
        stride: Of the finest level.
        cells: Into how many rows and columns a box is divided.

    Returns:
        For each level crops of its boxes ``(m, C, cells, cells)``, in float32; and an index ``(M,)`` into all of them.
    """
    from mmcv.ops import roi_align  # here, because only boxes need mmcv

    level = level_of(boxes[:, 1:], len(maps), stride)
    crops, rows = [], []
    for number, values in enumerate(maps):
        which = (level == number).nonzero().squeeze(1)
        wide = values.to(torch.float32, memory_format=torch.contiguous_format)
        crops.append(roi_align(wide, boxes[which].float(), (cells, cells), values.shape[-1] / width, 2, 'avg', True))
        rows.append(which)
    return crops, torch.cat(rows).argsort()


def level_means(maps: Sequence[Tensor], boxes: Tensor, width: int, stride: float) -> tuple[list[Tensor], Tensor]:
    """Return the mean features of boxes ``(m, C)`` instead, see :func:`level_crops`."""
    crops, order = level_crops(maps, boxes, width, stride)
    return [one.mean((2, 3)) for one in crops], order

"""Mean features of boxes, each of the level of a pyramid that suits its size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CELLS = 14  # a box of so many places of a level, or of up to twice as many, is looked at there


def finest_stride(maps: Sequence[Tensor], width: int) -> float:
    """Return the stride of the finest level of an image of a width in pixels."""
    return width / max(level.shape[-1] for level in maps)


def level_means(maps: Sequence[Tensor], boxes: Tensor, width: int, stride: float) -> tuple[list[Tensor], Tensor]:
    """Return the mean features of boxes, level by level, and how to bring them into the order of the boxes.

    Args:
        maps: Levels ``(N, C, h, w)``, the finest first.
        boxes: Index of the image and corners in pixels, ``(M, 5)``.
        width: Of the input, in pixels.
        stride: Of the finest level.

    Returns:
        For each level the means of its boxes ``(m, C)``, in float32; and an index ``(M,)`` into all of them.
    """
    from mmcv.ops import roi_align  # here, because only boxes need mmcv

    sides = ((boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])).clamp(min=1).sqrt()
    level_of = (sides / (CELLS * stride)).log2().floor().clamp(0, len(maps) - 1).long()
    means, rows = [], []
    for number, level in enumerate(maps):
        which = (level_of == number).nonzero().squeeze(1)
        wide = level.to(torch.float32, memory_format=torch.contiguous_format)
        cells = roi_align(wide, boxes[which].float(), (7, 7), level.shape[-1] / width, 2, 'avg', True)
        means.append(cells.mean((2, 3)))
        rows.append(which)
    return means, torch.cat(rows).argsort()

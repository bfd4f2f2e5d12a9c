"""Rows of boxes out of maps, and their division among the images of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import ViewError


def rows_of(levels: Sequence[Tensor], channels: int, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Flatten maps ``(N, A * channels, H, W)`` of all levels in the order of mmdet's anchors, image by image.

    A teacher that pads to a larger divisor has cells beyond the student's image: they are cut off.
    """
    per_level = []
    for level, (height, width) in zip(levels, sizes, strict=True):
        if level.shape[-2] < height or level.shape[-1] < width:
            raise ViewError(
                f"the teacher's maps are smaller than the student's: {tuple(level.shape[-2:])} for {(height, width)}; "
                'set a `pad_size_divisor` in the student that suits both'
            )
        level = level[..., :height, :width]
        per_level.append(level.permute(0, 2, 3, 1).reshape(len(level), -1, channels))
    return torch.cat(per_level, dim=1).flatten(0, 1)


def rows_by_image(image: Tensor, positive: Tensor, images: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Divide rows among images.

    Args:
        image: The image of each row, shape ``(M,)``.
        positive: Which rows are positive, shape ``(P,)``.
        images: How many images there are.

    Returns:
        For each image its rows, which of them are positive, and which of the positives they are.
    """
    divided = []
    for number in range(images):
        rows = (image == number).nonzero().squeeze(1)
        positives = (image[positive] == number).nonzero().squeeze(1)
        divided.append((rows, torch.searchsorted(rows, positive[positives]), positives))
    return divided


def joined_positives(counts: Sequence[int], positives: Sequence[Tensor]) -> Tensor:
    """Return which rows are positive after the rows of several samples, ``counts`` of them, are put together."""
    starts = [sum(counts[:number]) for number in range(len(counts))]
    return torch.cat([start + rows for start, rows in zip(starts, positives, strict=True)])


def renumbered(labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Return labels by their place among some classes, ``len(classes)`` for all others, shape as ``labels``."""
    matches = labels.unsqueeze(-1) == labels.new_tensor(list(classes))
    return torch.where(matches.any(dim=-1), matches.long().argmax(dim=-1), len(classes))

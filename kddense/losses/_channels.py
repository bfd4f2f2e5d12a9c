"""Channels of maps as rows, how far their values spread, and where features have them."""

from __future__ import annotations

import torch
from torch import Tensor

from kddense.losses._checks import check_same_shape


def channel_rows(maps: Tensor) -> Tensor:
    """Return all values of each channel, over images and positions, ``(C, N·H·W)``."""
    return maps.transpose(0, 1).flatten(1)


def centred(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return values minus their mean, and their standard deviation, unbiased, ``(C, 1)``; constant rows have no gradient."""
    values = rows - rows.mean(dim=1, keepdim=True)
    variance = values.square().sum(dim=1, keepdim=True) / max(rows.shape[1] - 1, 1)
    # The root of 0 has no gradient.
    spreads = variance > 0
    deviation = torch.where(spreads, torch.where(spreads, variance, 1).sqrt(), 0)
    return values, torch.where(variance.isnan(), variance, deviation)


def channel_dimension(student: Tensor, teacher: Tensor) -> int:
    """Return the dimension of the channels: 1 of maps ``(N, C, H, W)``, -1 of tokens ``(N, L, C)`` and vectors ``(N, C)``.

    Raises:
        ValueError: If the two are none of these, or not of one shape.
    """
    check_same_shape(student=student, teacher=teacher)
    if student.ndim not in (2, 3, 4):
        raise ValueError(
            'student and teacher must be maps (N, C, H, W), tokens (N, L, C) or vectors (N, C), got '
            f'{tuple(student.shape)}'
        )
    return 1 if student.ndim == 4 else -1

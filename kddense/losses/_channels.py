"""Channels of maps as rows, and how far their values spread."""

from __future__ import annotations

import torch
from torch import Tensor


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

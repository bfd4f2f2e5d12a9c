"""What flows between two layers behind 1x1 convolutions, by the fewest products.

``(A F + a)(B G + b)ᵀ = [A a] ([F 1] [G 1]ᵀ) [B b]ᵀ``: where positions are many and channels few, their products
come first, and the convolutions are applied to what flows. Averages commute with 1x1 convolutions: maps are pooled before.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kddense.losses._checks import full_precision
from kddense.losses._vectors import inner_products

Layer = tuple[Tensor, Tensor]  # weight (m, c) and bias (m,) of a 1x1 convolution


def pooled(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return two maps as channels over the same P positions, the larger averaged down and the first divided by P.

    The inner products of their rows are then what flows between them.

    Args:
        first: Shape ``(N, C, H, W)``.
        second: Shape ``(N, C', H', W')``.

    Returns:
        Shapes ``(N, C, P)`` and ``(N, C', P)``, in float32 at least.
    """
    first, second = full_precision(first, second)
    size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
    first, second = (one if one.shape[2:] == size else F.adaptive_avg_pool2d(one, size) for one in (first, second))
    return first.flatten(2) / max(size[0] * size[1], 1), second.flatten(2)


def connected_flow(first: Tensor, second: Tensor, left: Layer, right: Layer) -> Tensor:
    """Return :func:`kddense.losses.flow_matrix` of two maps behind the layers left and right, ``(N, m, n)``."""
    first, second = pooled(first, second)
    a, b = (torch.column_stack(layer).to(first.dtype) for layer in (left, right))
    places, c, d, m, n = first.shape[2], first.shape[1], second.shape[1], len(a), len(b)
    first, second = _with_bias(first, 1 / max(places, 1)), _with_bias(second, 1)
    from_left, from_right = m * d * (c + n), c * n * (d + m)
    with torch.autocast(first.device.type, enabled=False):
        if places * (m * c + n * d + m * n) <= places * c * d + min(from_left, from_right):
            return inner_products(a @ first, b @ second)
        flow = inner_products(first, second)
        return (a @ flow) @ b.T if from_left <= from_right else a @ (flow @ b.T)


def _with_bias(channels: Tensor, value: float) -> Tensor:
    return torch.cat([channels, channels.new_full((len(channels), 1, channels.shape[2]), value)], dim=1)

"""The squared distance of what flows between two layers of two networks, by few products.

``F Gᵀ`` flows between the channels F and G over P positions, the student's behind 1x1 convolutions A and B.

* Of many positions: ``(A F + a)(B G + b)ᵀ = [A a] ([F 1] [G 1]ᵀ) [B b]ᵀ``, the convolutions are applied to what flows.
* Of few, with the teacher's T, U: ``F Gᵀ - T Uᵀ = (D Qᵀ + S Eᵀ) / 2`` where D and S are F - T and F + T, E and Q are G - U
  and G + U; the squares of these are products of P x P matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kddense.losses._checks import full_precision
from kddense.losses._vectors import inner_products

Layer = tuple[Tensor, Tensor]  # weight (m, c) and bias (m,) of a 1x1 convolution


def pooled(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return two maps as channels over the same P positions, the larger averaged down and the first divided by P.

    The inner products of their channels are then what flows between them. Averages commute with 1x1 convolutions.

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


def squared_distance(
    student: Sequence[Tensor], teacher: Sequence[Tensor], layers: Sequence[Layer] | None = None
) -> Tensor:
    """Return the sum of squares of the difference of two flows, over images and pairs of channels.

    Args:
        student: Two :func:`pooled` layers, ``(N, c, P)`` and ``(N, d, P)``.
        teacher: The teacher's, ``(N, m, P')`` and ``(N, n, P')``.
        layers: Two convolutions from the student's channels to the teacher's.
    """
    with torch.autocast(student[0].device.type, enabled=False):
        places, (m, n) = student[0].shape[2], (side.shape[1] for side in teacher)
        if places == teacher[0].shape[2] and 9 * places * (m + n) < 4 * m * n:
            return _over_positions(_behind(student, layers) if layers else student, teacher)
        flow = inner_products(*student) if layers is None else _connected(student, layers)
        return F.mse_loss(flow, inner_products(*teacher), reduction='sum')


def _over_positions(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    (d, s), (e, q) = ((own - other, own + other) for own, other in zip(student, teacher, strict=True))
    products = [left.mT @ right for left, right in ((d, d), (q, q), (s, s), (e, e), (s, d), (e, q))]
    terms = [(left * right).sum() for left, right in zip(products[::2], products[1::2], strict=True)]
    return ((terms[0] + terms[1] + 2 * terms[2]) / 4).clamp(min=0)


def _connected(sides: Sequence[Tensor], layers: Sequence[Layer]) -> Tensor:
    """Return what flows between two layers behind their convolutions, ``(N, m, n)``."""
    (a, b), (first, second) = _matrices(layers, sides), _and_ones(sides)
    places, c, d, m, n = first.shape[2], first.shape[1], second.shape[1], len(a), len(b)
    from_left, from_right = m * d * (c + n), c * n * (d + m)
    if places * (m * c + n * d + m * n) <= places * c * d + min(from_left, from_right):
        return inner_products(a @ first, b @ second)
    flow = inner_products(first, second)
    return (a @ flow) @ b.T if from_left <= from_right else a @ (flow @ b.T)


def _behind(sides: Sequence[Tensor], layers: Sequence[Layer]) -> list[Tensor]:
    return [matrix @ side for matrix, side in zip(_matrices(layers, sides), _and_ones(sides), strict=True)]


def _matrices(layers: Sequence[Layer], sides: Sequence[Tensor]) -> list[Tensor]:
    return [torch.column_stack(layer).to(sides[0].dtype) for layer in layers]


def _and_ones(sides: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return both with a channel more, on which a bias acts: it is 1, divided by P in the first."""
    first, second = sides
    ones = second.new_ones(len(second), 1, second.shape[2])
    return torch.cat([first, ones / max(first.shape[2], 1)], dim=1), torch.cat([second, ones], dim=1)

"""Ternary weights (Li, Zhang, Liu, Ternary Weight Networks, arXiv:1605.04711)."""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import check_floating
from .straight_through import straight_through


def ternary(weight: Tensor, threshold: float = 0.7) -> Tensor:
    """Make each weight of a layer ``-α``, 0 or ``α``.

    A weight is 0 up to ``threshold · mean|w|``; ``α`` is the mean of ``|w|`` over the others, which with the paper's 0.7
    comes near to the least squared error for weights that are normally distributed. The gradient passes straight through.

    Args:
        weight: All weights of a layer, any floating dtype; computed in float32.
        threshold: At least 0.

    Returns:
        Same shape and dtype; zeros where all weights are.

    Raises:
        ValueError: If ``threshold`` or the dtype do not fit.

    Example:
        >>> import torch
        >>> ternary(torch.tensor([-1.0, 0.1, 0.5]))
        tensor([-0.7500, 0.0000, 0.7500])
    """
    if threshold < 0:
        raise ValueError(f'threshold must be at least 0, got {threshold}')
    check_floating(weight)
    zeros, scale = ternary_levels(weight, threshold)
    with torch.no_grad():
        values = weight.float()
        quantised = torch.where(values.abs() > zeros, scale * values.sign(), torch.zeros_like(values))
    return straight_through(weight, quantised)


@torch.no_grad()
def ternary_levels(weight: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return up to which ``|w|`` a weight is 0, and ``α``: one number each, float32.

    Args:
        weight: See :func:`ternary`.
        threshold: See :func:`ternary`.
    """
    size = weight.float().abs()
    zeros = threshold * (size.sum() / max(size.numel(), 1))
    counts = size > zeros
    return zeros, (size * counts).sum() / counts.sum().clamp(min=1)

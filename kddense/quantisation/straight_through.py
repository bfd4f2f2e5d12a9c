"""Gradients of quantised weights: rounding has none, so they pass as if it did not round (Bengio et al. 2013)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def straight_through(weight: Tensor, quantised: Tensor) -> Tensor:
    """Return the quantised values, exactly; their gradient is the weight's.

    ``weight + (quantised - weight).detach()`` has the same gradient, and rounds the values once more.

    Args:
        weight: Of any floating dtype.
        quantised: Same shape; cast to the weight's dtype. No gradient flows into it.
    """
    return _StraightThrough.apply(weight, quantised.detach().to(weight.dtype))


def without_gradient(weight: Tensor, quantised: Tensor) -> Tensor:
    """Return the quantised values with their own gradient; the weight stays in the graph, and its gradient is 0.

    Distributed training waits for the gradient of every weight that is trained.

    Args:
        weight: Of any floating dtype.
        quantised: Same shape.
    """
    return _WithoutGradient.apply(weight, quantised)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, quantised: Tensor) -> Tensor:
        return quantised.view_as(quantised)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _WithoutGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, quantised: Tensor) -> Tensor:
        ctx.dtype = weight.dtype
        return quantised.view_as(quantised)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(gradients[0], dtype=ctx.dtype), gradients[0]

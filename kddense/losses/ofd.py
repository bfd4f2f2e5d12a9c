"""Overhaul of feature distillation (Heo et al., "A Comprehensive Overhaul of Feature Distillation", ICCV 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kddense.losses._checks import check_same_shape, full_precision
from kddense.registry import MODELS

RARELY_BELOW = 1e-3  # the chance of a value below 0 under which the formula is no longer trusted


def negative_mean(mean: Tensor, deviation: Tensor) -> Tensor:
    """What normally distributed values are on average where they are below 0: the margin of each channel.

    ``μ - σ · φ(μ/σ) / Φ(-μ/σ)``; ``-3σ`` for channels that are below 0 less than once in a thousand times, as in the
    authors' code. A channel without deviation has its mean if that is below 0, else 0.

    Args:
        mean: The shift β of the batch norm before the ReLU, shape ``(C,)``.
        deviation: Its scale γ, of either sign, shape ``(C,)``.

    Returns:
        Shape ``(C,)``, at most 0, float64 inside and the dtype of ``mean`` outside.

    Example:
        >>> negative_mean(torch.tensor([0.0, 0.5, -0.5, 4.0]), torch.tensor([1.0, 1.0, 2.0, 1.0]))
        tensor([-0.7979, -0.6411, -1.7917, -3.0000])
    """
    check_same_shape(mean=mean, deviation=deviation)
    middle, spread = mean.detach().double(), deviation.detach().double().abs()
    constant = spread == 0
    ratio = middle / torch.where(constant, torch.ones_like(spread), spread)
    below = torch.special.ndtr(-ratio)
    density = torch.exp(-0.5 * ratio.square()) / math.sqrt(2 * math.pi)
    usual = middle - spread * density / below.clamp(min=RARELY_BELOW)
    margin = torch.where(below > RARELY_BELOW, usual, -3 * spread)
    return torch.where(constant, middle.clamp(max=0), margin).to(mean.dtype)


def partial_distance(student: Tensor, teacher: Tensor, margin: Tensor | float) -> Tensor:
    """Squared distance to the teacher's values before a ReLU, which forgives what both networks switch off.

    With ``t = max(teacher, margin)``: ``1/N · Σ (s - t)²`` over all values but those where ``s ≤ t ≤ 0``; summed over
    channels and positions, averaged over images.

    Args:
        student: Values before the ReLU, behind a connector with a norm, shape ``(N, C, ...)``, of any floating dtype;
            computed in float32, or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        margin: Below which the teacher's values all count as one, at most 0: a number, or one for each channel, ``(C,)``.
            ``-inf`` asks for the teacher's values as they are.

    Returns:
        A scalar; a 0 that back-propagates if there is no image.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.2, -3.0, 0.5, -1.0]]), torch.tensor([[2.0, -0.3, -2.0, -2.0, 1.0]])
        >>> partial_distance(student, teacher, margin=-0.8)
        tensor(6.9400)
    """
    check_same_shape(student=student, teacher=teacher)
    margin = torch.as_tensor(margin, device=teacher.device)
    if margin.ndim and margin.shape != student.shape[1:2]:
        raise ValueError(
            f'margin must be a number or one for each of {student.shape[1]} channels, got {tuple(margin.shape)}'
        )
    student, teacher = full_precision(student, teacher.detach())
    margin = margin.to(teacher.dtype)
    target = torch.maximum(teacher, margin.view(-1, *[1] * (student.ndim - 2)) if margin.ndim else margin)
    counts = (student > target) | (target > 0)
    return torch.where(counts, student - target, torch.zeros_like(target)).square().sum() / max(len(student), 1)


@MODELS.register_module()
class OFDLoss(nn.Module):
    """:func:`partial_distance`: summed over channels and positions, averaged over images."""

    def forward(self, student: Tensor, teacher: Tensor, margin: Tensor | float = -math.inf) -> Tensor:
        """Return the loss, a scalar; the margin is of the teacher's channels."""
        return partial_distance(student, teacher, margin)

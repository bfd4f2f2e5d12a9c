"""Focal loss (Lin et al., ICCV 2017) on sigmoid and on softmax, forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor

from ._common import compute_dtype

TINY = torch.finfo(torch.float32).tiny  # where mmcv, too, stops the logarithm


def _log(probability: Tensor) -> Tensor:
    return probability.clamp(min=TINY).log()


def _row_weights(weight: Tensor, target: Tensor, classes: int) -> Tensor | float:
    """Return each row's class weight, 1 for the background, which has none; shape ``(R,)``."""
    if not weight.numel():
        return 1.0
    known = (target >= 0) & (target < classes)
    return torch.where(known, weight[target.clamp(0, classes - 1)], weight.new_ones(()))


def _fill_sigmoid(filled: Tensor, positive: Tensor, negative: Tensor, target: Tensor, weight: Tensor) -> None:
    """Fill with ``positive`` at each row's target class and ``negative`` elsewhere, times the row's class weight."""
    classes = filled.shape[1]
    hit = target[:, None] == torch.arange(classes, device=target.device)
    row = _row_weights(weight, target, classes)
    filled.copy_(torch.where(hit, positive, negative) * (row[:, None] if isinstance(row, Tensor) else row))


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` with one loss per row and class.

    Args:
        input: Logits, shape ``(R, K)``.
        target: Class of each row, K for background, shape ``(R,)``, int64.
        weight: Weight by the row's class, shape ``(K,)``, or empty.
        output: Filled, shape ``(R, K)``.
        gamma: Exponent of the probability of the wrong answer.
        alpha: Weight of positives; negatives get 1 - alpha.
    """
    p = input.to(compute_dtype(input)).sigmoid()
    positive = -alpha * (1 - p) ** gamma * _log(p)
    negative = -(1 - alpha) * p**gamma * _log(1 - p)
    _fill_sigmoid(output, positive, negative, target, weight)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` with the derivative of each loss by its logit; see :func:`sigmoid_focal_loss_forward`."""
    p = input.to(compute_dtype(input)).sigmoid()
    positive = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * _log(p))
    negative = -(1 - alpha) * p**gamma * (gamma * (1 - p) * _log(1 - p) - p)
    _fill_sigmoid(grad_input, positive, negative, target, weight)


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` with one loss per row, 0 where the target is negative.

    Args:
        input: Probabilities, after the softmax, shape ``(R, K)``.
        target: Class of each row, shape ``(R,)``, int64.
        weight: Weight by the row's class, shape ``(K,)``, or empty.
        output: Filled, shape ``(R,)``.
        gamma: Exponent of the probability of the wrong answer.
        alpha: Weight of the loss.
    """
    p = _target_probability(input, target)
    loss = -alpha * (1 - p) ** gamma * _log(p) * _row_weights(weight, target, input.shape[1])
    output.copy_(loss * (target >= 0))


def softmax_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` ``(R, K)`` with the derivative by the logits; ``buff`` is not used."""
    p = _target_probability(input, target)
    outer = alpha * (gamma * (1 - p) ** (gamma - 1) * p * _log(p) - (1 - p) ** gamma)
    outer = outer * _row_weights(weight, target, input.shape[1]) * (target >= 0)
    hit = target[:, None] == torch.arange(input.shape[1], device=target.device)
    grad_input.copy_(outer[:, None] * (hit.to(p.dtype) - input))


def _target_probability(probabilities: Tensor, target: Tensor) -> Tensor:
    p = probabilities.to(compute_dtype(probabilities))
    return p.gather(1, target.clamp(min=0)[:, None]).squeeze(1)

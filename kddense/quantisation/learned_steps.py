"""Steps whose size learns (LSQ: Esser et al., Learned Step Size Quantization, ICLR 2020, arXiv:1902.08153).

PyTorch's ``_fake_quantize_learnable_per_tensor_affine`` is not it: what lies up to half a step beyond the ends gives the
step the gradient of what lies inside. It is private, too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._checks import check_floating

SMALLEST_STEP = torch.finfo(torch.float32).eps


def on_learned_steps(value: Tensor, step: Tensor, least: int, most: int, count: int) -> Tensor:
    """Round to multiples of a step that learns: ``s · round(clip(v / s, least, most))``.

    The gradient of ``v`` passes straight through where ``least < v / s < most``, and is 0 elsewhere. That of the step is
    ``Σ ∂L/∂v̂ · (round(v / s) - v / s)`` inside, ``Σ ∂L/∂v̂ · least`` or ``most`` beyond, times ``1 / √(count · most)``.

    Args:
        value: Any floating dtype; computed in float32.
        step: One number, greater than 0.
        least: The least whole number.
        most: The greatest one, at least 1.
        count: How many numbers the layer has: weights, or features of one image.

    Returns:
        Same shape and dtype.

    Raises:
        ValueError: If ``most``, ``step`` or the dtype do not fit.

    Example:
        >>> import torch
        >>> step = torch.tensor(0.5, requires_grad=True)
        >>> result = on_learned_steps(torch.tensor([0.3, 0.6, 9.0]), step, -2, 1, count=3)
        >>> result.sum().backward()
        >>> result.detach(), step.grad.round(decimals=4)
        (tensor([0.5000, 0.5000, 0.5000]), tensor(0.6928))
    """
    check_floating(value)
    if most < 1 or step.numel() != 1:
        raise ValueError(f'most must be at least 1 and step one number, got {most} and shape {tuple(step.shape)}')
    if value.numel() == 0:
        return value + 0 * step.to(value.dtype)
    return _OnLearnedSteps.apply(value, step, least, most, (count * most) ** -0.5)


@torch.no_grad()
def first_step(value: Tensor, most: int) -> Tensor:
    """Return where a step begins to learn: ``2 · mean|v| / √most``, one number.

    Args:
        value: At least one number.
        most: The greatest whole number.
    """
    return (2 * value.float().abs().mean() / most**0.5).clamp(min=SMALLEST_STEP)


class _OnLearnedSteps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, step: Tensor, least: int, most: int, weight: float) -> Tensor:
        ctx.save_for_backward(value, step)
        ctx.options = least, most, weight
        return _scaled(value, step).clamp_(least, most).round_().mul_(step).to(value.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        value, step = ctx.saved_tensors
        least, most, weight = ctx.options
        scaled = _scaled(value, step)
        whole = scaled.clamp(least, most).round_()
        gradient = gradients[0].float()
        inside = torch.ops.aten.hardtanh_backward(gradient, scaled, least, most)
        of_step = torch.dot(gradient.flatten(), whole.flatten()) - torch.dot(inside.flatten(), scaled.flatten())
        return inside.to(value.dtype), (of_step * weight).view_as(step).to(step), None, None, None


def _scaled(value: Tensor, step: Tensor) -> Tensor:
    return value.float() / step

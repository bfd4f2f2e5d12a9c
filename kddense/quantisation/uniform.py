"""Weights on even steps: symmetric and affine per output channel, and clipped as in WRPN.

Affine and WRPN's steps are PyTorch's ``fake_quantize`` functions; symmetric ones are rounded here, which needs no record
for the gradient. How large steps are is computed here too: observers of ``torch.ao`` keep a state that a weight does not
need, and are on their way out of PyTorch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._checks import check_bits, check_floating
from .folding import along
from .steps import Mode, Steps, steps_by_channel
from .straight_through import straight_through


def symmetric(weight: Tensor, bits: int, axis: int = 0) -> Tensor:
    """Round each output channel to ``2^bits - 1`` even steps from ``-max|w|`` to ``max|w|``; 0 is one of them.

    The gradient passes straight through.

    Args:
        weight: At least one dimension, any floating dtype; computed in float32.
        bits: 2 to 8.
        axis: The dimension of the output channels: 1 for transposed convolutions.

    Returns:
        Same shape and dtype.

    Raises:
        ValueError: If ``bits`` or the dtype do not fit.

    Example:
        >>> import torch
        >>> symmetric(torch.tensor([[-1.0, 0.4, 0.1]]), bits=2)
        tensor([[-1., 0., 0.]])
    """
    check_bits(bits, 2, 'symmetric steps')
    check_floating(weight)
    if weight.numel() == 0:
        return weight
    return _by_channel(weight, bits, 'symmetric', axis)


def affine(weight: Tensor, bits: int, axis: int = 0) -> Tensor:
    """Round each output channel to ``2^bits`` even steps from its least weight to its greatest, shifted so that 0 is one.

    The gradient passes straight through, but for what the shift pushes beyond the ends, up to half a step: there it is 0.

    Args:
        weight: See :func:`symmetric`.
        bits: 1 to 8.
        axis: See :func:`symmetric`.

    Returns:
        Same shape and dtype.

    Raises:
        ValueError: If ``bits`` or the dtype do not fit.

    Example:
        >>> import torch
        >>> affine(torch.tensor([[0.0, 1.0, 2.9]]), bits=2)
        tensor([[0.0000, 0.9667, 2.9000]])
    """
    check_bits(bits)
    check_floating(weight)
    if weight.numel() == 0:
        return weight
    return _by_channel(weight, bits, 'affine', axis)


def wrpn(weight: Tensor, bits: int) -> Tensor:
    """Clip weights to [-1, 1], and round them to ``2^bits - 1`` even steps (WRPN: Mishra et al., ICLR 2018).

    ``round((2^{bits-1} - 1) · clip(w, -1, 1)) / (2^{bits-1} - 1)``: one sign bit, and no scale that depends on the weights.
    The gradient passes straight through, and is 0 where a weight is clipped. Layers whose weights are small against a step
    become 0: with few bits it wants norms behind the convolutions, and weights that were trained with it.

    Args:
        weight: Any floating dtype; computed in float32.
        bits: 2 to 8.

    Returns:
        Same shape and dtype.

    Raises:
        ValueError: If ``bits`` or the dtype do not fit.

    Example:
        >>> import torch
        >>> wrpn(torch.tensor([-3.0, 0.4, 0.6]), bits=2)
        tensor([-1., 0., 1.])
    """
    check_bits(bits, 2, 'WRPN')
    check_floating(weight)
    limit = 2 ** (bits - 1) - 1
    clipped = weight.float().clamp(-1, 1)
    return torch.fake_quantize_per_tensor_affine(clipped, 1 / limit, 0, -limit, limit).to(weight.dtype)


def _by_channel(weight: Tensor, bits: int, mode: Mode, axis: int) -> Tensor:
    scale, zero_point, least, most = steps_by_channel(weight, bits, mode, axis)
    if mode == 'symmetric':  # no weight lies beyond the ends
        scale = along(scale, weight, axis)
        return straight_through(weight, (weight.detach().float() / scale).round_().clamp_(least, most).mul_(scale))
    quantised = torch.fake_quantize_per_channel_affine(weight.float(), scale, zero_point, axis, least, most)
    return quantised.to(weight.dtype)


def on_steps(value: Tensor, steps: Steps) -> Tensor:
    """Round values to steps that the whole tensor has.

    The gradient passes straight through where the values are not clipped, and is 0 beyond.

    Args:
        value: Any floating dtype; computed in float32.
        steps: Scale and zero point on the CPU, so that no GPU waits.

    Returns:
        Same shape and dtype.

    Example:
        >>> steps = Steps(torch.tensor(0.5), torch.tensor(1, dtype=torch.int32), 0, 3)
        >>> on_steps(torch.tensor([-2.0, 0.2, 0.6, 5.0]), steps)
        tensor([-0.5000,  0.0000,  0.5000,  1.0000])
    """
    scale, zero, least, most = float(steps.scale), int(steps.zero_point), steps.least, steps.most
    if value.device.type != 'cpu':
        return torch.fake_quantize_per_tensor_affine(value.float(), scale, zero, least, most).to(value.dtype)
    return _OnSteps.apply(value, scale, least - zero, most - zero)


class _OnSteps(torch.autograd.Function):
    """As ``fake_quantize_per_tensor_affine``, which takes eight times as long on CPUs: its loop has no vectors."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: float, least: int, most: int) -> Tensor:
        ctx.save_for_backward(value)
        ctx.ends = (least - 0.5) * scale, (most + 0.5) * scale
        return value.float().div(scale).round_().clamp_(least, most).mul_(scale).to(value.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return torch.ops.aten.hardtanh_backward(gradients[0], ctx.saved_tensors[0], *ctx.ends), None, None, None

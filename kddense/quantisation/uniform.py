"""Weights on even steps: symmetric and affine per output channel, and clipped as in WRPN.

The steps are PyTorch's ``fake_quantize`` functions. How large they are is computed here: observers of ``torch.ao`` keep a
state that a weight does not need, and are on their way out of PyTorch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import check_bits, check_floating

TINY = torch.finfo(torch.float32).tiny


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
    limit = 2 ** (bits - 1) - 1
    value = weight.float()
    with torch.no_grad():
        scale = (_by_channel(value, axis).abs().amax(1) / limit).clamp(min=TINY)
        zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(value, scale, zero, axis, -limit, limit).to(weight.dtype)


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
    most = 2**bits - 1
    value = weight.float()
    with torch.no_grad():
        channels = _by_channel(value, axis)
        low, high = channels.amin(1).clamp(max=0), channels.amax(1).clamp(min=0)
        scale = ((high - low) / most).clamp(min=TINY)
        zero = (-low / scale).round().clamp(0, most).to(torch.int32)
    return torch.fake_quantize_per_channel_affine(value, scale, zero, axis, 0, most).to(weight.dtype)


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


def _by_channel(value: Tensor, axis: int) -> Tensor:
    return value.movedim(axis, 0).reshape(value.shape[axis], -1)

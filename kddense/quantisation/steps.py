"""Even steps: how large they are, where 0 is, and how many there are."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

TINY = torch.finfo(torch.float32).tiny
Mode = Literal['symmetric', 'affine']


class Steps(NamedTuple):
    """Steps of a tensor: ``scale · (clip(round(v / scale) + zero_point, least, most) - zero_point)``.

    Attributes:
        scale: Float32, greater than 0: ``()`` for the whole tensor, or one for each of its channels.
        zero_point: Int32, same shape: the whole number that stands for 0.
        least: The least whole number.
        most: The greatest one.
    """

    scale: Tensor
    zero_point: Tensor
    least: int
    most: int


def ends_of(bits: int, mode: Mode) -> tuple[int, int]:
    """Return the least and the greatest whole number: ``±(2^(bits-1) - 1)`` if symmetric, 0 and ``2^bits - 1`` if affine.

    Example:
        >>> ends_of(8, 'symmetric'), ends_of(8, 'affine')
        ((-127, 127), (0, 255))
    """
    return (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1) if mode == 'symmetric' else (0, 2**bits - 1)


def signed_ends(bits: int) -> tuple[int, int]:
    """Return the least and the greatest whole number of ``bits``, with a sign: -128 and 127 of 8."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


@torch.no_grad()
def steps_between(low: Tensor, high: Tensor, bits: int, mode: Mode) -> Steps:
    """Return the steps that reach from a least value to a greatest one; 0 is among them.

    Args:
        low: Float32, any shape.
        high: Same shape.
        bits: 2 to 8, of affine steps also 1.
        mode: ``'symmetric'`` about 0, or ``'affine'``.

    Example:
        >>> steps_between(torch.tensor(-0.5), torch.tensor(2.5), 2, 'affine')
        Steps(scale=tensor(1.), zero_point=tensor(0, dtype=torch.int32), least=0, most=3)
    """
    if mode == 'symmetric':
        return _steps_about_zero(torch.maximum(low.abs(), high.abs()), bits)
    least, most = ends_of(bits, mode)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / most).clamp(min=TINY)
    return Steps(scale, (-low / scale).round().clamp(0, most).to(torch.int32), least, most)


def _steps_about_zero(reach: Tensor, bits: int) -> Steps:
    least, most = ends_of(bits, 'symmetric')
    scale = (reach / most).clamp(min=TINY)
    return Steps(scale, torch.zeros_like(scale, dtype=torch.int32), least, most)


@torch.no_grad()
def steps_by_channel(weight: Tensor, bits: int, mode: Mode, axis: int = 0) -> Steps:
    """Return the steps of each output channel of a weight.

    Args:
        weight: At least one in each channel.
        bits: See :func:`steps_between`.
        mode: See :func:`steps_between`.
        axis: The dimension of the output channels.
    """
    weight = weight.detach().float()
    if mode == 'symmetric' and weight.ndim > 1:  # one pass, in whatever order the weight lies in memory
        others = [dimension for dimension in range(weight.ndim) if dimension != axis]
        return _steps_about_zero(weight.abs().amax(others), bits)
    channels = weight.movedim(axis, 0).reshape(weight.shape[axis], -1)
    return steps_between(channels.amin(1), channels.amax(1), bits, mode)

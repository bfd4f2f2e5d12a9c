"""Checks of the losses' arguments, their precision, and means over positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def check_same_shape(**tensors: Tensor) -> None:
    """Raise ``ValueError`` unless all tensors, given by name, have one shape."""
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        *names, last = tensors
        shapes = ', '.join(str(tuple(tensor.shape)) for tensor in tensors.values())
        raise ValueError(f'{", ".join(names)} and {last} must have one shape, got {shapes}')


def check_positive(name: str, value: float) -> None:
    """Raise ``ValueError`` unless ``value`` is finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f'{name} must be above 0, got {value}')


def check_not_negative(name: str, value: float) -> None:
    """Raise ``ValueError`` unless ``value`` is finite and at least 0."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f'{name} must be at least 0, got {value}')


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f'{name} must be one of {", ".join(map(repr, choices))}, got {value!r}')


def check_mask(mask: Tensor | None, positions: Sequence[int]) -> None:
    """Raise ``ValueError`` unless ``mask``, if there is one, is boolean and of the shape of the positions."""
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise ValueError(f'mask must be boolean, got {mask.dtype}')
    if tuple(mask.shape) != tuple(positions):
        raise ValueError(f'mask must have the shape of the positions, {tuple(positions)}, got {tuple(mask.shape)}')


def mean_over(per_position: Tensor, mask: Tensor | None) -> Tensor:
    """Average over the positions where ``mask`` is True, over all without it; 0 if there are none."""
    if mask is None:
        return per_position.sum() / max(per_position.numel(), 1)
    kept = torch.where(mask, per_position, torch.zeros_like(per_position))
    return kept.sum() / mask.sum().clamp(min=1)


def full_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast to float32, or to float64 if any of the tensors is float64; gradients flow back through the cast."""
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
    return tuple(tensor.to(dtype) for tensor in tensors)

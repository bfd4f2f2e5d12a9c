"""Errors of single entries (box edges, pixels), and their sums and means over a sample."""

from __future__ import annotations

import torch
from torch import Tensor

from kddense.losses._checks import check_choice, check_same_shape, full_precision


def entry_errors(prediction: Tensor, target: Tensor, mask: Tensor | None, norm: str) -> Tensor:
    """Return the errors of single entries, 0 where the mask is False, in full precision."""
    check_same_shape(prediction=prediction, target=target)
    check_choice('norm', norm, ('l2', 'l1'))
    if prediction.ndim == 0:
        raise ValueError('prediction and target must have a dimension of samples, got scalars')
    prediction, target = full_precision(prediction, target)
    if mask is not None:
        check_same_shape(prediction=prediction, mask=mask)
        # Before the difference: the gradient of an infinite one is NaN even where it is masked afterwards.
        prediction, target = (torch.where(mask, side, torch.zeros_like(side)) for side in (prediction, target))
    difference = prediction - target
    return difference.square() if norm == 'l2' else difference.abs()


def over_entries(values: Tensor, mask: Tensor | None, entries: str) -> Tensor:
    """Return the sum over each sample's entries, shape ``(N,)``, or for ``entries='mean'`` their mean over the mask."""
    sums = _sum_entries(values)
    return sums if entries == 'sum' else sums / counted(mask, values).clamp(min=1)


def counted(mask: Tensor | None, like: Tensor) -> Tensor:
    """Return how many entries of each sample count."""
    return _sum_entries(torch.ones_like(like, dtype=torch.bool) if mask is None else mask)


def _sum_entries(values: Tensor) -> Tensor:
    return values.flatten(1).sum(dim=1) if values.ndim > 1 else values

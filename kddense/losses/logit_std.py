"""Logit standardisation (Sun, Ren, Li, Wang and Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from kddense.losses._checks import full_precision

EPSILON = 1e-7


def standardize_logits(logits: Tensor, dim: int = 1) -> Tensor:
    """Bring the logits of each position to mean 0 and standard deviation 1 over classes, before the softmax.

    ``(z - mean) / (1e-7 + standard deviation)``, the deviation unbiased as in the authors' code. A student that learns from
    the softmax of these need not match the range of the teacher's logits, only their shape.

    Args:
        logits: Any shape, of any floating dtype; computed in float32, or in float64 if it is.
        dim: The dimension of the classes.

    Returns:
        The same shape; 0 where all classes of a position have one logit, or there is but one class. A class of logit -inf
        stays that, and counts in neither mean nor deviation.

    Example:
        >>> standardize_logits(torch.tensor([[2.0, 0.0, -2.0]]))
        tensor([[ 1.,  0., -1.]])
    """
    (logits,) = full_precision(logits)
    counts = logits != -torch.inf
    number = counts.sum(dim=dim, keepdim=True)
    finite = logits.masked_fill(~counts, 0)
    mean = finite.sum(dim=dim, keepdim=True) / number.clamp(min=1)
    centred = (finite - mean).masked_fill(~counts, 0)
    squares = centred.square().sum(dim=dim, keepdim=True) / (number - 1).clamp(min=1)
    constant = squares == 0
    deviation = torch.where(constant, squares, torch.where(constant, torch.ones_like(squares), squares).sqrt())
    return (centred / (EPSILON + deviation)).masked_fill(~counts, -torch.inf)


def check_standardize(standardize: bool, classes: str) -> None:
    """Raise ``ValueError`` if logits of classes that are decided one by one are to be standardised."""
    if standardize and classes != 'softmax':
        raise ValueError(
            f"standardize=True needs classes that exclude one another, 'softmax', as it takes their mean, got {classes!r}"
        )

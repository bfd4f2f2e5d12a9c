"""FBKD (Zhang, Ma, "Improve Object Detection with Feature-based Knowledge Distillation", ICLR 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from kddense.losses._checks import check_positive, check_same_shape, full_precision


def spatial_attention(features: Tensor, temperature: float = 0.5) -> Tensor:
    """Where a map is strong: ``H·W · softmax over positions of (mean over channels of |x| / T)``, 1 on average.

    Args:
        features: Shape ``(N, C, H, W)``, of any floating dtype; computed in float32 at least.
        temperature: The paper's T, above 0.

    Returns:
        Shape ``(N, 1, H, W)``.

    Raises:
        ValueError: If it is no map, or ``temperature`` is not above 0.

    Example:
        >>> spatial_attention(torch.tensor([[[[1.0, 0.0]]]]))
        tensor([[[[1.7616, 0.2384]]]])
    """
    check_positive('temperature', temperature)
    if features.ndim != 4:
        raise ValueError(f'features must be maps of shape (N, C, H, W), got {tuple(features.shape)}')
    (features,) = full_precision(features)
    strength = features.abs().mean(1).flatten(1) / temperature
    return (strength.softmax(1) * strength.shape[1]).view(len(features), 1, *features.shape[2:])


def root_distance(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Euclidean distance of two tensors, ``√ Σ m (s - t)²`` over all elements of the batch.

    As in the released code, nothing is averaged: the value grows with the square root of the number of images, channels
    and positions. Its gradient is 0 where the two agree.

    Args:
        student: Of any shape and floating dtype; computed in float32, or in float64 if either input is.
        teacher: Same shape. Not detached, the layer that made it may learn.
        mask: m, at least 0, of a shape that can be broadcast to theirs; 1 without it. No gradient flows into it.

    Returns:
        A scalar; for tensors without elements, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> root_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]]))
        tensor(5.)
        >>> root_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]]), torch.tensor([[1.0, 0.0]]))
        tensor(3.)
    """
    check_same_shape(student=student, teacher=teacher)
    student, teacher = full_precision(student, teacher)
    difference = student - teacher
    if mask is not None:
        difference = difference * mask.detach().to(difference.dtype).sqrt()
    if difference.numel() == 0:
        return difference.sum()
    return torch.linalg.vector_norm(difference)

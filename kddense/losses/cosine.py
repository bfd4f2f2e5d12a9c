"""Cosine between features of one place, as recent detectors are tied to a foundation encoder (RT-DETRv4, 2025)."""

from __future__ import annotations

from torch import Tensor, nn

from kddense.losses._channels import channel_dimension
from kddense.losses._checks import full_precision
from kddense.losses._vectors import unit_vectors
from kddense.registry import MODELS


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine of the student's and the teacher's channels, averaged over places and images.

    Only the direction of a place's feature is imitated, not its length. A place where either feature is 0 has no direction:
    it counts 1, and has no gradient.

    Args:
        student: Features behind their projection: a map ``(N, C, H, W)``, tokens ``(N, L, C)`` or vectors ``(N, C)``, of any
            floating dtype; computed in float32, or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.

    Returns:
        A scalar from 0 to 2; 0 that back-propagates if there is no place.

    Raises:
        ValueError: If the inputs are not of one shape, or not of one of these kinds.

    Example:
        >>> import torch
        >>> cosine_distance(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        tensor(0.6464)
    """
    channels = channel_dimension(student, teacher)
    student, teacher = full_precision(student, teacher.detach())
    if student.numel() == 0:
        return student.sum()
    cosine = (unit_vectors(student, channels) * unit_vectors(teacher, channels)).sum(channels)
    return (1 - cosine).mean()


@MODELS.register_module()
class CosineLoss(nn.Module):
    """:func:`cosine_distance`, averaged over places and images."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return cosine_distance(student, teacher)

"""ReviewKD (Chen, Liu, Zhao, Jia, "Distilling Knowledge via Knowledge Review", CVPR 2021): its loss.

What fuses the levels stands in :class:`kddense.ReviewConnector`.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import check_same_shape, full_precision
from kddense.registry import MODELS

SIZES = (4, 2, 1)


def hierarchical_context_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two maps, and of what is left of them at 4 x 4, 2 x 2 and 1 x 1 places.

    The whole map counts 1, the averages of 4 x 4 parts ½, of 2 x 2 parts ¼, of all ⅛; sizes that are not below the map's
    height are left out and leave no gap in the weights, whose sum divides the result, as in the released code. Each
    term is averaged over images, channels and places.

    Args:
        student: Features after their connector, shape ``(N, C, H, W)``, of any floating dtype; computed in float32, or in
            float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.

    Returns:
        A scalar; for maps without elements, a 0 that back-propagates.

    Raises:
        ValueError: If the inputs are not maps of one shape.

    Example:
        >>> import torch
        >>> hierarchical_context_distance(torch.arange(16.0).view(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
        tensor(73.2500)
    """
    check_same_shape(student=student, teacher=teacher)
    if student.ndim != 4:
        raise ValueError(f'student and teacher must be maps of shape (N, C, H, W), got {tuple(student.shape)}')
    student, teacher = full_precision(student, teacher.detach())
    if student.numel() == 0:
        return student.sum() * 0
    total, weight, weights = F.mse_loss(student, teacher), 1.0, 1.0
    difference = student - teacher  # averages of differences are differences of averages
    for size in (size for size in SIZES if size < student.shape[2]):
        weight /= 2
        total = total + weight * F.adaptive_avg_pool2d(difference, size).square().mean()
        weights += weight
    return total / weights


@MODELS.register_module()
class HierarchicalContextLoss(nn.Module):
    """:func:`hierarchical_context_distance`, averaged over images, channels and places of each size."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return hierarchical_context_distance(student, teacher)

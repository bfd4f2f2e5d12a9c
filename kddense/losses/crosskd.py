"""CrossKD (Wang et al., "CrossKD: Cross-Head Knowledge Distillation for Object Detection", CVPR 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._channels import centred, channel_rows
from kddense.losses._checks import check_same_shape, full_precision
from kddense.registry import MODELS

EPSILON = 1e-6


def matched_statistics(student: Tensor, teacher: Tensor) -> Tensor:
    """Give each channel of a student's map the mean and the standard deviation of the teacher's.

    The rest of the teacher's head was trained on features of its own scale. Statistics are those of the batch, over images
    and positions, with the unbiased deviation plus 1e-6, as in the released code. Under data parallelism each process takes
    its own.

    Args:
        student: Features, shape ``(N, C, H, W)``, of any floating dtype; computed in float32, or in float64 if either input
            is. Gradients flow through its statistics too.
        teacher: The teacher's, same shape. No gradient flows into it.

    Returns:
        The student's features, same shape. A constant channel becomes the teacher's mean.

    Raises:
        ValueError: If the inputs are not maps of one shape.

    Example:
        >>> student, teacher = torch.tensor([0.0, 2.0]), torch.tensor([5.0, 6.0])
        >>> matched_statistics(student.view(1, 1, 1, 2), teacher.view(1, 1, 1, 2)).flatten()
        tensor([5., 6.])
    """
    check_same_shape(student=student, teacher=teacher)
    if student.ndim != 4:
        raise ValueError(f'student and teacher must be maps of shape (N, C, H, W), got {tuple(student.shape)}')
    student, teacher = full_precision(student, teacher.detach())
    if student.numel() == 0:
        return student
    values, deviation = centred(channel_rows(student))
    target = channel_rows(teacher)
    matched = values / (deviation + EPSILON) * centred(target)[1] + target.mean(dim=1, keepdim=True)
    return matched.unflatten(1, (len(student), *student.shape[2:])).transpose(0, 1)


def quality_focal_divergence(
    student: Tensor, teacher: Tensor, beta: float = 1.0, average: float | Tensor | None = None
) -> Tensor:
    """Binary cross-entropy towards the teacher's probabilities, weighted by how far the student is from them.

    ``|σ(s) - σ(t)|^β · BCE(σ(s), σ(t))``, summed over samples and classes, divided by ``average``.

    Args:
        student: Logits of classes that are decided each on its own, shape ``(M, K)``, of any floating dtype; computed in
            float32, or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        beta: At least 1; the authors' is 1.
        average: What the sum is divided by; the number of samples by default.

    Returns:
        A scalar; without samples, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes differ, or ``beta`` is below 1, where the gradient of a perfect student is not finite.

    Example:
        >>> student, teacher = torch.tensor([[0.2], [0.9]]), torch.tensor([[0.6], [0.8]])
        >>> quality_focal_divergence(student.logit(), teacher.logit(), average=1)
        tensor(0.4764)
    """
    check_same_shape(student=student, teacher=teacher)
    _check_beta(beta)
    student, teacher = full_precision(student, teacher.detach())
    target = teacher.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(student, target, reduction='none')
    total = ((student.sigmoid() - target).abs().pow(beta) * entropy).sum()
    return total / (max(len(student), 1) if average is None else average)


def _check_beta(beta: float) -> None:
    if not 1 <= beta < float('inf'):
        raise ValueError(f'beta must be at least 1, got {beta}')


@MODELS.register_module()
class QualityFocalDivergenceLoss(nn.Module):
    """:func:`quality_focal_divergence`, a sum over samples and classes.

    Args:
        beta: At least 1.

    Raises:
        ValueError: If ``beta`` is below 1.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        _check_beta(beta)
        self.beta = beta

    def forward(self, student: Tensor, teacher: Tensor, average: float | Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; divided by the number of samples unless ``average`` is given."""
        return quality_focal_divergence(student, teacher, self.beta, average)

    def extra_repr(self) -> str:
        return f'beta={self.beta}'


def centerness(distances: Tensor) -> Tensor:
    """How central a point lies in its box (FCOS): ``√(min(l, r) / max(l, r) · min(t, b) / max(t, b))``.

    Args:
        distances: To left, top, right and bottom, at least 0, shape ``(P, 4)``.

    Returns:
        Shape ``(P,)``, from 0 to 1; 0 of a box without an extent.
    """
    pairs = torch.stack([distances[:, 0::2], distances[:, 1::2]], dim=1)
    low, high = pairs.amin(dim=2), pairs.amax(dim=2)
    return torch.where(high > 0, low / torch.where(high > 0, high, 1), 0).prod(dim=1).sqrt()

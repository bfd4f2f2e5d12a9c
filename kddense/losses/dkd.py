"""DKD (Zhao, Cui, Song, Qiu, Liang, "Decoupled Knowledge Distillation", CVPR 2022)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import (
    check_choice,
    check_not_negative,
    check_positive,
    check_same_shape,
    full_precision,
    mean_over,
)
from kddense.registry import MODELS


def decoupled_divergence(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    classes: str = 'softmax',
) -> Tensor:
    """Divergence of the student's class probabilities, the true class and the others weighted apart.

    ``τ² · mean over samples of (α · TCKD + β · NCKD)``. *TCKD* is the divergence of what both think of the true class
    against all others together, *NCKD* that of the distributions over the other classes alone. Soft targets are
    ``TCKD + (1 - p) · NCKD`` with the teacher's probability p of the true class: where it is sure, what it knows of the
    others is lost. Here it counts everywhere.

    For sigmoid classes, which the paper does not treat, each class is a yes or no of its own: *TCKD* is the divergence of
    the true class's, *NCKD* the sum of those of the others. With α = β = 1 that is
    :func:`kddense.losses.sigmoid_soft_target_divergence`.

    Args:
        student: Logits, rows ``(M, C)`` or maps ``(N, C, H, W)``, of any floating dtype; computed in float32, or in float64
            if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        labels: The true classes, integers, ``(M,)`` or ``(N, H, W)``. A negative one leaves its sample out. For
            sigmoid classes C is the background: no class is true.
        alpha: The paper's α, at least 0.
        beta: The paper's β, at least 0: 8 on CIFAR-100, 0.25 for the RoIs of detectors.
        temperature: The paper's T, above 0: 4 on CIFAR-100, 1 for the RoIs of detectors.
        classes: ``'softmax'`` or ``'sigmoid'``.

    Returns:
        A scalar; if no sample counts, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes do not fit, a label names no class, or a number is out of its range.

    Example:
        >>> import torch
        >>> teacher, student = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> decoupled_divergence(student, teacher, torch.tensor([0]), temperature=1.0)
        tensor(0.9042)
    """
    check_same_shape(student=student, teacher=teacher)
    check_not_negative('alpha', alpha)
    check_not_negative('beta', beta)
    check_positive('temperature', temperature)
    check_choice('classes', classes, ('softmax', 'sigmoid'))
    _check_labels(student, labels, classes)
    student, teacher = full_precision(student, teacher.detach())
    teacher = teacher.clamp(min=torch.finfo(teacher.dtype).min / 4)  # of a class that is ruled out, 0 · inf is NaN
    counts = labels >= 0
    at = labels.clamp(min=0)
    parts = _softmax_parts if classes == 'softmax' else _sigmoid_parts
    target, others = parts(student / temperature, teacher / temperature, at)
    return temperature**2 * mean_over(alpha * target + beta * others, counts)


def _check_labels(logits: Tensor, labels: Tensor, classes: str) -> None:
    if logits.ndim < 2:
        raise ValueError(f'student and teacher must be rows (M, C) or maps (N, C, H, W), got {tuple(logits.shape)}')
    positions, count = (*logits.shape[:1], *logits.shape[2:]), logits.shape[1]
    if tuple(labels.shape) != positions or labels.dtype.is_floating_point:
        raise ValueError(f'labels must be integers of shape {positions}, got {labels.dtype} {tuple(labels.shape)}')
    if classes == 'softmax' and count < 2:
        raise ValueError(f'softmax classes must be at least two, got logits of shape {tuple(logits.shape)}')
    most = count - 1 if classes == 'softmax' else count
    if labels.numel() and labels.max() > most:
        raise ValueError(f'labels must be at most {most} for {count} classes, got {labels.max().item()}')


def _softmax_parts(student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    true = F.one_hot(labels, student.shape[1]).movedim(-1, 1).bool()
    (yes_s, no_s, rest_s), (yes_t, no_t, rest_t) = (_log_parts(side, true) for side in (student, teacher))
    target = yes_t.exp() * (yes_t - yes_s) + no_t.exp() * (no_t - no_s)
    others = (rest_t.exp() * (rest_t - rest_s)).sum(1)
    return target, others


def _log_parts(logits: Tensor, true: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logarithms of the true class's probability, of all others' together, and of each among the others."""
    all_together = logits.logsumexp(1)
    alone = logits.masked_fill(true, -torch.inf)
    others = alone.logsumexp(1)
    yes = logits.masked_fill(~true, 0).sum(1)
    rest = (logits - others.unsqueeze(1)).masked_fill(true, 0)
    return yes - all_together, others - all_together, rest


def _sigmoid_parts(student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    true = F.one_hot(labels, student.shape[1] + 1).movedim(-1, 1)[:, :-1].bool()
    wanted = teacher.sigmoid()
    divergence = F.binary_cross_entropy_with_logits(student, wanted, reduction='none')
    divergence = divergence - F.binary_cross_entropy_with_logits(teacher, wanted, reduction='none')
    return divergence.masked_fill(~true, 0).sum(1), divergence.masked_fill(true, 0).sum(1)


@MODELS.register_module()
class DKDLoss(nn.Module):
    """:func:`decoupled_divergence`, averaged over samples.

    Args:
        alpha: The paper's α, at least 0.
        beta: The paper's β, at least 0.
        temperature: The paper's T, above 0.
        classes: ``'softmax'``, or ``'sigmoid'`` where each class is decided on its own.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        classes: Literal['softmax', 'sigmoid'] = 'softmax',
    ) -> None:
        super().__init__()
        check_not_negative('alpha', alpha)
        check_not_negative('beta', beta)
        check_positive('temperature', temperature)
        check_choice('classes', classes, ('softmax', 'sigmoid'))
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature
        self.classes: str = classes

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar; samples with negative ``labels`` do not count."""
        return decoupled_divergence(student, teacher, labels, self.alpha, self.beta, self.temperature, self.classes)

    def extra_repr(self) -> str:
        return f'alpha={self.alpha}, beta={self.beta}, temperature={self.temperature}, classes={self.classes!r}'

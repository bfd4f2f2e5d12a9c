"""Born-again networks (Furlanello et al., ICML 2018): what of a teacher's probabilities helps an equal student."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import check_choice, check_same_shape, full_precision, mean_over
from kddense.losses.hinton import sigmoid_soft_target_divergence, soft_target_divergence
from kddense.registry import MODELS

MODES = ('soft', 'cwtm', 'dkpp')


def confidence_weighted(student: Tensor, teacher: Tensor, labels: Tensor, classes: str = 'softmax') -> Tensor:
    """Cross-entropy with the labels, each sample weighted by how sure the teacher is (CWTM); nothing else of it is used.

    ``Σ_s w_s · CE(y_s, q_s)`` with ``w_s = max_i p_{i,s} / Σ_u max_i p_{i,u}``: the weights of a batch sum to 1, so this
    is a weighted mean. For sigmoid classes, which the paper does not treat, the cross-entropy is summed over the yes and no
    of all classes, and the teacher is as sure as of its likeliest class, or of none.

    Args:
        student: Logits, rows ``(M, C)`` or maps ``(N, C, H, W)``; computed in float32, or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        labels: The true classes, integers, ``(M,)`` or ``(N, H, W)``. A negative one leaves its sample out. For sigmoid
            classes C is the background: no class is true.
        classes: ``'softmax'`` or ``'sigmoid'``.

    Returns:
        A scalar; if no sample counts, a 0 that back-propagates.
    """
    check_same_shape(student=student, teacher=teacher)
    check_choice('classes', classes, ('softmax', 'sigmoid'))
    student, teacher = full_precision(student, teacher.detach())
    counts = labels >= 0
    if classes == 'softmax':
        sure = teacher.softmax(1).amax(1)
        cross_entropy = F.cross_entropy(student, labels.clamp(min=0), reduction='none')
    else:
        likely = teacher.sigmoid()
        sure = torch.maximum(likely.amax(1), 1 - likely.amax(1))
        wanted = F.one_hot(labels.clamp(min=0), student.shape[1] + 1).movedim(-1, 1)[:, :-1].to(student)
        cross_entropy = F.binary_cross_entropy_with_logits(student, wanted, reduction='none').sum(1)
    weight = torch.where(counts, sure, torch.zeros_like(sure))
    total = weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
    return (weight * torch.where(counts, cross_entropy, torch.zeros_like(cross_entropy))).sum() / total


def permuted_targets(teacher: Tensor, numbers: Tensor) -> Tensor:
    """Return a teacher's probabilities, all but the greatest of each sample in random order (DKPP).

    Args:
        teacher: Probabilities, ``(M, C)`` or ``(N, C, H, W)``.
        numbers: Random ones, same shape, from 0 to 1: their order is the permutation.

    Returns:
        Same shape; the greatest stays where it is.
    """
    count = teacher.shape[1]
    greatest = teacher.argmax(1, keepdim=True)
    is_greatest = torch.zeros_like(teacher, dtype=torch.bool).scatter(1, greatest, True)
    places = torch.arange(count, device=teacher.device).view(1, -1, *[1] * (teacher.ndim - 2)).expand_as(teacher)
    others = places.masked_fill(is_greatest, count).argsort(1)[:, :-1]  # in their own order
    shuffled = numbers.masked_fill(is_greatest, 2.0).argsort(1)[:, :-1]
    return teacher.scatter(1, shuffled, teacher.gather(1, others))


def permuted_divergence(student: Tensor, teacher: Tensor, numbers: Tensor, classes: str = 'softmax') -> Tensor:
    """Divergence of the student's probabilities from :func:`permuted_targets`, the mean over samples.

    The paper minimises the cross-entropy, which is this and the teacher's entropy. For sigmoid classes, which the paper does
    not treat, probabilities of single classes are permuted.

    Args:
        student: Logits, rows ``(M, C)`` or maps ``(N, C, H, W)``; computed in float32, or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        numbers: See :func:`permuted_targets`.
        classes: ``'softmax'`` or ``'sigmoid'``.

    Returns:
        A scalar; if there is no sample, a 0 that back-propagates.
    """
    check_same_shape(student=student, teacher=teacher, numbers=numbers)
    check_choice('classes', classes, ('softmax', 'sigmoid'))
    student, teacher = full_precision(student, teacher.detach())
    if classes == 'sigmoid':
        target = permuted_targets(teacher.sigmoid(), numbers)
        cross_entropy = F.binary_cross_entropy_with_logits(student, target, reduction='none')
        return mean_over(
            (cross_entropy + torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target)).sum(1), None
        )
    target = permuted_targets(teacher.softmax(1), numbers)
    return mean_over((torch.xlogy(target, target) - target * student.log_softmax(1)).sum(1), None)


@MODELS.register_module()
class BANLoss(nn.Module):
    """What a born-again student learns of its teacher, at temperature 1.

    Args:
        mode: ``'soft'``: its probabilities (BAN, and with the task's own loss BAN+L); ``'cwtm'``:
            :func:`confidence_weighted`; ``'dkpp'``: :func:`permuted_divergence`.
        classes: ``'softmax'``, or ``'sigmoid'`` where each class is decided on its own.

    Raises:
        ValueError: If there is no such mode.
    """

    def __init__(
        self,
        mode: Literal['soft', 'cwtm', 'dkpp'] = 'soft',
        classes: Literal['softmax', 'sigmoid'] = 'softmax',
    ) -> None:
        super().__init__()
        check_choice('mode', mode, MODES)
        check_choice('classes', classes, ('softmax', 'sigmoid'))
        self.mode = mode
        self.classes: str = classes

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None, numbers: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; ``labels`` for CWTM, random ``numbers`` for DKPP."""
        if self.mode == 'cwtm':
            assert labels is not None
            return confidence_weighted(student, teacher, labels, self.classes)
        if self.mode == 'dkpp':
            assert numbers is not None
            return permuted_divergence(student, teacher, numbers, self.classes)
        if self.classes == 'sigmoid':
            return sigmoid_soft_target_divergence(student, teacher)
        return soft_target_divergence(student, teacher)

    def extra_repr(self) -> str:
        return f'mode={self.mode!r}, classes={self.classes!r}'

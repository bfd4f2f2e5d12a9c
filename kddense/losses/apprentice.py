"""Soft targets for a student of few bits (Mishra, Marr, Apprentice, ICLR 2018, arXiv:1711.05852)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import check_choice, full_precision, mean_over
from kddense.losses._softmax_divergence import finite_logits
from kddense.losses.hinton import sigmoid_soft_target_divergence, soft_target_divergence
from kddense.registry import MODELS


def soft_cross_entropy(student: Tensor, teacher: Tensor, classes: Literal['softmax', 'sigmoid'] = 'softmax') -> Tensor:
    """Cross-entropy of the student's classes with the teacher's, the mean over positions.

    ``mean of -Σ_c softmax(t)_c · log softmax(s)_c``: :func:`soft_target_divergence` at temperature 1 and the teacher's own
    entropy, thus with the same gradient. For sigmoid classes, which the paper does not treat, the cross-entropy of the yes
    or no of each class, summed over classes.

    Args:
        student: Logits, rows ``(M, C)`` or maps ``(N, C, H, W)``; computed in float32, or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        classes: ``'softmax'`` or ``'sigmoid'``.

    Returns:
        A scalar; if there is no position, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes or ``classes`` do not fit.

    Example:
        >>> import torch
        >>> soft_cross_entropy(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[2.0, 0.0, 0.0]]))
        tensor(0.7645)
    """
    check_choice('classes', classes, ('softmax', 'sigmoid'))
    if classes == 'sigmoid':
        divergence = sigmoid_soft_target_divergence(student, teacher)
        (own,) = full_precision(finite_logits(teacher.detach()))
        entropy = F.binary_cross_entropy_with_logits(own, own.sigmoid(), reduction='none').sum(1)
    else:
        divergence = soft_target_divergence(student, teacher)
        (own,) = full_precision(teacher.detach())
        probabilities = own.softmax(1)
        entropy = -torch.xlogy(probabilities, probabilities).sum(1)
    return divergence + mean_over(entropy, None).to(divergence)


@MODELS.register_module()
class ApprenticeLoss(nn.Module):
    """What an apprentice learns of its teacher: :func:`soft_cross_entropy`, at temperature 1, which the paper found best.

    The paper's loss is ``α · H(y, p_T) + β · H(y, p_A) + γ · H(p_T, p_A)`` with 1, 0.5 and 0.5; this is the last H. The
    second is the student's own loss, weighted by ``task_weights``; the first that of a teacher that learns beside it.

    Args:
        classes: ``'softmax'``, or ``'sigmoid'`` where each class is decided on its own.
    """

    compares_classes = True

    def __init__(self, classes: Literal['softmax', 'sigmoid'] = 'softmax') -> None:
        super().__init__()
        check_choice('classes', classes, ('softmax', 'sigmoid'))
        self.classes: Literal['softmax', 'sigmoid'] = classes

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return soft_cross_entropy(student, teacher, self.classes)

    def extra_repr(self) -> str:
        return f'classes={self.classes!r}'

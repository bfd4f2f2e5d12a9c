"""Generalized distillation (Lopez-Paz, Bottou, Schölkopf, Vapnik, ICLR 2016): a teacher with privileged input."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import check_choice, check_positive, check_same_shape, full_precision, mean_over
from kddense.losses._softmax_divergence import finite_logits, softmax_divergence
from kddense.registry import MODELS


def imitation(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    mode: Literal['paper', 'code'] = 'paper',
    classes: str = 'softmax',
    mask: Tensor | None = None,
) -> Tensor:
    """Divergence of the student's probabilities from the teacher's softened ones; the student's have no temperature.

    The mean over samples of ``KL(σ(t / T) ‖ σ(s))``: the paper's cross-entropy less the entropy of the soft labels, which no
    student can change. The authors' code multiplies it by T²; the paper does not.

    Args:
        student: Logits, rows ``(M, C)`` or maps ``(N, C, H, W)``; computed in float32, or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        temperature: The paper's T, above 0.
        mode: ``'paper'`` or ``'code'``.
        classes: ``'softmax'``, or ``'sigmoid'`` where each class is decided on its own: then summed over classes.
        mask: True where a sample counts, boolean, the logits' shape without classes. All count without it.

    Returns:
        A scalar; if no sample counts, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes do not fit, or an option is out of its range.
    """
    check_same_shape(student=student, teacher=teacher)
    check_positive('temperature', temperature)
    check_choice('mode', mode, ('paper', 'code'))
    check_choice('classes', classes, ('softmax', 'sigmoid'))
    student, teacher = full_precision(student, teacher.detach())
    if classes == 'softmax':
        found = softmax_divergence(student, teacher / temperature, 1, student_first=False)
    else:
        soft = finite_logits(teacher) / temperature
        target = soft.sigmoid()
        found = F.binary_cross_entropy_with_logits(student, target, reduction='none')
        found = (found - F.binary_cross_entropy_with_logits(soft, target, reduction='none')).sum(1)
    return mean_over(found, mask) * (temperature**2 if mode == 'code' else 1.0)


@MODELS.register_module()
class ImitationLoss(nn.Module):
    """:func:`imitation`, averaged over samples.

    Args:
        temperature: The paper's T, above 0; it tried 1 to 50.
        mode: ``'paper'``, or ``'code'``: times T².
        classes: ``'softmax'`` or ``'sigmoid'``.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        mode: Literal['paper', 'code'] = 'paper',
        classes: Literal['softmax', 'sigmoid'] = 'softmax',
    ) -> None:
        super().__init__()
        check_positive('temperature', temperature)
        check_choice('mode', mode, ('paper', 'code'))
        check_choice('classes', classes, ('softmax', 'sigmoid'))
        self.temperature = temperature
        self.mode = mode
        self.classes: str = classes

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return imitation(student, teacher, self.temperature, self.mode, self.classes)

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}, mode={self.mode!r}, classes={self.classes!r}'

"""DIST (Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from kddense.losses._checks import (
    check_choice,
    check_mask,
    check_not_negative,
    check_positive,
    check_same_shape,
    full_precision,
)
from kddense.losses._vectors import unit_vectors
from kddense.registry import MODELS

EPSILON = 1e-8


def relation_distance(
    student: Tensor,
    teacher: Tensor,
    inter: float = 1.0,
    intra: float = 1.0,
    temperature: float = 1.0,
    classes: str = 'softmax',
    mask: Tensor | None = None,
) -> Tensor:
    """One minus the correlation of class probabilities, within each sample and within each class.

    ``τ² · (β · (1 - mean over samples of r) + γ · (1 - mean over classes of r))``, where ``r`` is Pearson's correlation of
    the student's and the teacher's probabilities: *inter* compares the classes of one sample, *intra* the samples of one
    class. Only the order and the spacing count, not the values, so that a much stronger teacher can be followed.

    A sample or a class in which one side is constant, such as a class that no sample shows, correlates with nothing: its
    share is 1, and it has no gradient. With fewer than two samples there is nothing to compare within a class, with fewer
    than two classes nothing within a sample: that term is then 0.

    The samples are those of the batch at hand: two processes with half of it each do not add up to one with the whole.
    The authors' segmentation code has no temperature; τ² is that of their classification code.

    Args:
        student: Logits, rows ``(M, C)`` or maps ``(N, C, H, W)`` whose samples are all positions of all images, of any
            floating dtype; computed in float32, or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        inter: The paper's β, at least 0.
        intra: The paper's γ, at least 0.
        temperature: The paper's τ, above 0.
        classes: ``'softmax'``, or ``'sigmoid'`` where each class is decided on its own.
        mask: True where a sample counts, boolean, ``(M,)`` or ``(N, H, W)``. All count without it.

    Returns:
        A scalar; if no sample counts, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes do not fit, ``mask`` is not boolean or a number is out of its range.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> student = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
        >>> relation_distance(student, teacher)
        tensor(0.5833)
    """
    check_same_shape(student=student, teacher=teacher)
    check_not_negative('inter', inter)
    check_not_negative('intra', intra)
    check_positive('temperature', temperature)
    check_choice('classes', classes, ('softmax', 'sigmoid'))
    if student.ndim not in (2, 4):
        raise ValueError(f'student and teacher must be rows (M, C) or maps (N, C, H, W), got {tuple(student.shape)}')
    check_mask(mask, (*student.shape[:1], *student.shape[2:]))
    student, teacher = full_precision(student, teacher.detach())
    ours, theirs = (_probabilities(_rows(side, mask) / temperature, classes) for side in (student, teacher))
    zero = student.sum() * 0
    samples, count = ours.shape
    if samples == 0:
        return zero
    within_samples = 1 - _correlation(ours, theirs).mean() if count > 1 else zero
    within_classes = 1 - _correlation(ours.T, theirs.T).mean() if samples > 1 else zero
    return temperature**2 * (inter * within_samples + intra * within_classes)


def _rows(logits: Tensor, mask: Tensor | None) -> Tensor:
    rows = logits.movedim(1, -1)
    return rows.reshape(-1, rows.shape[-1]) if mask is None else rows[mask]


def _probabilities(logits: Tensor, classes: str) -> Tensor:
    return logits.softmax(dim=1) if classes == 'softmax' else logits.sigmoid()


def _correlation(student: Tensor, teacher: Tensor) -> Tensor:
    """Return Pearson's correlation of each row, 0 where one side is constant."""
    ours, theirs = (unit_vectors(_centred(side), epsilon=EPSILON) for side in (student, teacher))
    return (ours * theirs).sum(1)


def _centred(rows: Tensor) -> Tensor:
    # What is constant is exactly 0 after this, where its mean in float32 would leave a remainder to be blown up.
    rows = rows - rows[:, :1].detach()
    return rows - rows.mean(1, keepdim=True)


@MODELS.register_module()
class DISTLoss(nn.Module):
    """:func:`relation_distance`, averaged over samples and over classes.

    Args:
        inter: The paper's β, at least 0.
        intra: The paper's γ, at least 0.
        temperature: The paper's τ, above 0.
        classes: ``'softmax'``, or ``'sigmoid'`` where each class is decided on its own.

    Raises:
        ValueError: If a number is out of its range.
    """

    compares_classes = True
    dim = 1

    def __init__(
        self,
        inter: float = 1.0,
        intra: float = 1.0,
        temperature: float = 1.0,
        classes: Literal['softmax', 'sigmoid'] = 'softmax',
    ) -> None:
        super().__init__()
        check_not_negative('inter', inter)
        check_not_negative('intra', intra)
        check_positive('temperature', temperature)
        check_choice('classes', classes, ('softmax', 'sigmoid'))
        self.inter = inter
        self.intra = intra
        self.temperature = temperature
        self.classes: str = classes

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; ``mask`` is True where a sample counts."""
        return relation_distance(student, teacher, self.inter, self.intra, self.temperature, self.classes, mask)

    def extra_repr(self) -> str:
        return f'inter={self.inter}, intra={self.intra}, temperature={self.temperature}, classes={self.classes!r}'

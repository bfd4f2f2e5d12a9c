"""Teacher-bounded box regression (Chen et al., NeurIPS 2017, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kddense.losses._checks import check_choice, check_not_negative, check_same_shape, full_precision
from kddense.registry import MODELS


def bounded_regression(
    student: Tensor, teacher: Tensor, target: Tensor, margin: float = 0.0, norm: str = 'l2'
) -> Tensor:
    """Penalise a box only while the student does not beat the teacher by ``margin``.

    A teacher's box is unbounded and may be wrong, so it is never a target. It only decides whether the student still
    has something to learn: ``‖s - y‖²`` where ``‖s - y‖² + margin > ‖t - y‖²``, else 0.

    Each box has a gate of its own. (Codes seen elsewhere gate on one mean over the batch, which lets good boxes shield
    bad ones.)

    Args:
        student: Box deltas in the coder's normalised space, shape ``(R, 4)``, for positive boxes only; any floating
            dtype, computed in float32, or in float64 if any input is.
        teacher: The teacher's deltas for the same boxes, same shape. No gradient flows into it.
        target: Regression targets, same shape.
        margin: How much better, in the norm's own unit, the student must be to be left alone. At least 0.
        norm: ``'l2'`` for the paper's squared error, ``'l1'`` for absolute error, in the gate as well.

    Returns:
        One error per box, shape ``(R,)``; not averaged: the caller knows how many boxes were sampled.

    Raises:
        ValueError: If the shapes differ, ``margin`` is negative or ``norm`` is neither of the two.

    Example:
        >>> target = torch.zeros(2, 4)
        >>> teacher = torch.tensor([[0.2, 0, 0, 0], [0.2, 0, 0, 0]])
        >>> student = torch.tensor([[0.3, 0, 0, 0], [0.1, 0, 0, 0]])
        >>> bounded_regression(student, teacher, target)
        tensor([0.0900, 0.0000])
    """
    check_same_shape(student=student, teacher=teacher, target=target)
    check_not_negative('margin', margin)
    check_choice('norm', norm, ('l2', 'l1'))
    student, teacher, target = full_precision(student, teacher.detach(), target)
    student_error = _per_box(student - target, norm)
    teacher_error = _per_box(teacher - target, norm)
    # A comparison with NaN is False, and would hide it.
    counts = (student_error + margin > teacher_error) | student_error.isnan()
    return torch.where(counts, student_error, torch.zeros_like(student_error))


def box_imitation(student: Tensor, teacher: Tensor, norm: str = 'l2') -> Tensor:
    """Pull the student's boxes straight to the teacher's: ``‖s - t‖²``, right or wrong.

    The row 'L2' of the paper's ablation (Table 4), which is *worse* than no distillation of boxes at all. It is here to
    be compared with; to train with, take :func:`bounded_regression`.

    Args:
        student: Box deltas in the coder's normalised space, shape ``(R, 4)``; any floating dtype, computed in float32,
            or in float64 if either input is.
        teacher: The teacher's deltas for the same boxes, same shape. No gradient flows into it.
        norm: ``'l2'`` for squared, ``'l1'`` for absolute error.

    Returns:
        One error per box, shape ``(R,)``, not averaged.

    Raises:
        ValueError: If the shapes differ or ``norm`` is neither of the two.

    Example:
        >>> box_imitation(torch.tensor([[0.3, 0, 0, 0]]), torch.tensor([[0.2, 0, 0, 0]]))
        tensor([0.0100])
    """
    check_same_shape(student=student, teacher=teacher)
    check_choice('norm', norm, ('l2', 'l1'))
    student, teacher = full_precision(student, teacher.detach())
    return _per_box(student - teacher, norm)


@MODELS.register_module()
class BoundedRegressionLoss(nn.Module):
    """:func:`bounded_regression`, averaged over the sampled boxes.

    The paper's weight for this term is ν = 0.5; it belongs to the objective.

    Args:
        margin: See :func:`bounded_regression`. The paper does not give its value; 0 by default.
        norm: ``'l2'`` or ``'l1'``.

    Raises:
        ValueError: If ``margin`` is negative or ``norm`` is neither of the two.

    Example:
        >>> student, teacher, target = torch.full((1, 4), 0.2), torch.full((1, 4), 0.1), torch.zeros(1, 4)
        >>> BoundedRegressionLoss()(student, teacher, target, num_sampled=4)
        tensor(0.0400)
    """

    def __init__(self, margin: float = 0.0, norm: str = 'l2') -> None:
        super().__init__()
        check_not_negative('margin', margin)
        check_choice('norm', norm, ('l2', 'l1'))
        self.margin = margin
        self.norm = norm

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, num_sampled: float) -> Tensor:
        """Return the loss, a scalar; ``num_sampled`` counts negatives too, as the detector's own box loss does."""
        return bounded_regression(student, teacher, target, self.margin, self.norm).sum() / max(num_sampled, 1)

    def extra_repr(self) -> str:
        return f'margin={self.margin}, norm={self.norm!r}'


@MODELS.register_module()
class BoxImitationLoss(nn.Module):
    """:func:`box_imitation`, averaged over the sampled boxes; takes the place of :class:`BoundedRegressionLoss`.

    Args:
        norm: ``'l2'`` or ``'l1'``.

    Raises:
        ValueError: If ``norm`` is neither of the two.

    Example:
        >>> student, teacher, target = torch.full((1, 4), 0.2), torch.full((1, 4), 0.1), torch.zeros(1, 4)
        >>> BoxImitationLoss()(student, teacher, target, num_sampled=4)
        tensor(0.0100)
    """

    def __init__(self, norm: str = 'l2') -> None:
        super().__init__()
        check_choice('norm', norm, ('l2', 'l1'))
        self.norm = norm

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, num_sampled: float) -> Tensor:
        """Return the loss, a scalar; ``target`` is not looked at, ``num_sampled`` counts negatives too."""
        return box_imitation(student, teacher, self.norm).sum() / max(num_sampled, 1)

    def extra_repr(self) -> str:
        return f'norm={self.norm!r}'


def _per_box(difference: Tensor, norm: str) -> Tensor:
    return (difference.square() if norm == 'l2' else difference.abs()).sum(dim=-1)

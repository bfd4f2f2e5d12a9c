"""Activation boundaries (Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries", AAAI 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kddense.losses._checks import check_positive, check_same_shape, full_precision
from kddense.registry import MODELS


def boundary_distance(student: Tensor, teacher: Tensor, margin: float = 1.0) -> Tensor:
    """How far the student's values before a ReLU are on the wrong side of 0, by the teacher's, or too near to it.

    ``1/N · Σ (max(0, μ - s)² where t > 0, max(0, μ + s)² elsewhere)``: summed over channels and positions, averaged over
    images, as in the authors' code. Only the teacher's signs matter.

    Args:
        student: Values before the ReLU, behind a connector with a norm, shape ``(N, ...)``, of any floating dtype;
            computed in float32, or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        margin: The paper's μ, above 0; 1 presumes values of about that size.

    Returns:
        A scalar; a 0 that back-propagates if there is no image.

    Raises:
        ValueError: If the shapes differ or ``margin`` is not above 0.

    Example:
        >>> student, teacher = torch.tensor([[0.5, 0.2, -3.0, -1.5]]), torch.tensor([[2.0, -0.3, -2.0, 0.5]])
        >>> boundary_distance(student, teacher)
        tensor(7.9400)
    """
    check_same_shape(student=student, teacher=teacher)
    check_positive('margin', margin)
    student, teacher = full_precision(student, teacher.detach())
    inward = (teacher > 0).to(student.dtype).mul_(-2).add_(1)  # -1 where the student should be above 0, else 1
    missing = torch.addcmul(student.new_full((), margin), inward, student).relu_()
    return missing.square().sum() / max(len(student), 1)


@MODELS.register_module()
class ABLoss(nn.Module):
    """:func:`boundary_distance`: summed over channels and positions, averaged over images.

    Args:
        margin: The paper's μ, above 0.

    Raises:
        ValueError: If ``margin`` is not above 0.
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        check_positive('margin', margin)
        self.margin = margin

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return boundary_distance(student, teacher, self.margin)

    def extra_repr(self) -> str:
        return f'margin={self.margin}'

"""Channel-wise distillation (Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021)."""

from __future__ import annotations

from torch import Tensor, nn

from kddense.losses._checks import check_positive, check_same_shape, full_precision
from kddense.losses._softmax_divergence import softmax_divergence
from kddense.registry import MODELS


def channel_wise_divergence(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """KL divergence of each channel's softmax over positions.

    ``τ² / (N·C) · Σ over images and channels of KL(softmax over positions of t / τ ‖ the same of s / τ)``. What the teacher
    finds salient counts most. Averaged over channels and images, summed over positions.

    Args:
        student: Logits or features, shape ``(N, C, H, W)``, of any floating dtype; computed in float32, or in float64 if
            either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        temperature: The paper's T, above 0; 4 in the paper.

    Returns:
        A scalar.

    Raises:
        ValueError: If the inputs are not maps of one shape, or ``temperature`` is not above 0.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[[[2.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]]])
        >>> student = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]]])
        >>> channel_wise_divergence(student, teacher, temperature=1.0)
        tensor(0.1726)
    """
    check_same_shape(student=student, teacher=teacher)
    check_positive('temperature', temperature)
    if student.ndim != 4:
        raise ValueError(f'student and teacher must be maps of shape (N, C, H, W), got {tuple(student.shape)}')
    student, teacher = full_precision(student, teacher.detach())
    per_channel = softmax_divergence(
        student.flatten(2) / temperature, teacher.flatten(2) / temperature, dim=2, student_first=False
    )
    return temperature**2 * per_channel.sum() / max(per_channel.numel(), 1)


@MODELS.register_module()
class CWDLoss(nn.Module):
    """:func:`channel_wise_divergence`, averaged over channels and images.

    Args:
        temperature: The paper's T, above 0.

    Raises:
        ValueError: If ``temperature`` is not above 0.
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        check_positive('temperature', temperature)
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return channel_wise_divergence(student, teacher, self.temperature)

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}'

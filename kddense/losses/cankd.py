"""CanKD (Sun, Ohyama, "Cross-Attention-based Non-local operation for Feature-based Knowledge Distillation", WACV 2026)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import check_same_shape, full_precision
from kddense.registry import MODELS

EPSILON = 1e-5


def instance_normalised_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of two maps whose channels are standardised image by image.

    Each channel of each image is brought to mean 0 and variance 1 over its positions first. Averaged over images,
    channels and positions. That equals one minus the correlation of the two channels, averaged over channels and images, up
    to the 1e-5 that is added to variances. From the paper: the instance norm of both sides and the mean squared difference;
    the half is the released code's, whose weight of 10 is the paper's μ = 5.

    Args:
        student: Features, shape ``(N, C, H, W)``, of any floating dtype; computed in float32, or in float64 if either
            input is.
        teacher: The teacher's, same shape. No gradient flows into it.

    Returns:
        A scalar; 0 that back-propagates for maps of fewer than two positions, which have no deviation.

    Raises:
        ValueError: If the inputs are not maps of one shape.

    Example:
        >>> import torch
        >>> teacher, student = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([0.0, 0.0, 1.0, 1.0])
        >>> instance_normalised_distance(student.view(1, 1, 2, 2), teacher.view(1, 1, 2, 2))
        tensor(0.1056)
    """
    check_same_shape(student=student, teacher=teacher)
    if student.ndim != 4:
        raise ValueError(f'student and teacher must be maps of shape (N, C, H, W), got {tuple(student.shape)}')
    student, teacher = full_precision(student, teacher.detach())
    if student.numel() == 0 or student.shape[2:].numel() < 2:
        return student.sum() * 0
    return F.mse_loss(_standardised(student), _standardised(teacher)) / 2


def _standardised(maps: Tensor) -> Tensor:
    # A constant channel is exactly 0 after this, where its mean in float32 would leave a remainder to be blown up.
    return F.instance_norm(maps - maps[:, :, :1, :1].detach(), eps=EPSILON)


@MODELS.register_module()
class InstanceNormalisedLoss(nn.Module):
    """:func:`instance_normalised_distance`, averaged over images, channels and positions."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return instance_normalised_distance(student, teacher)

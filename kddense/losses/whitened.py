"""Whitened features (Wei et al., "Contrastive Learning Rivals Masked Image Modeling in Fine-tuning via Feature
Distillation", 2022, section 3)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._channels import channel_dimension
from kddense.losses._checks import check_positive, full_precision
from kddense.registry import MODELS

EPSILON = 1e-5


def whitened_distance(student: Tensor, teacher: Tensor, beta: float | None = 2.0) -> Tensor:
    """Distance of the student's features from the teacher's whitened ones, averaged over channels, places and images.

    The channels of each place of the teacher are brought to mean 0 and variance 1 (a layer norm without weights), so that
    teachers of any scale are compared alike; the student's are left as its projection makes them. A place of the teacher
    whose channels are all equal is 0 then.

    Args:
        student: Features behind their projection: a map ``(N, C, H, W)``, tokens ``(N, L, C)`` or vectors ``(N, C)``, of any
            floating dtype; computed in float32, or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        beta: Of the smooth L1 distance: up to it half the square divided by it, beyond it linear. ``None`` for squares.

    Returns:
        A scalar; 0 that back-propagates if there is no place.

    Raises:
        ValueError: If the inputs are not of one shape, or not of one of these kinds, or ``beta`` is not above 0.

    Example:
        >>> import torch
        >>> whitened_distance(torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 5.0]]), beta=None)
        tensor(2.0000)
    """
    channels = channel_dimension(student, teacher)
    if beta is not None:
        check_positive('beta', beta)
    student, teacher = full_precision(student, teacher.detach())
    if student.numel() == 0:
        return student.sum()
    last = teacher.movedim(channels, -1)
    # Less its first channel a constant place is exactly 0, where its mean in float32 would leave a remainder to be blown up.
    whitened = F.layer_norm(last - last[..., :1], last.shape[-1:], eps=EPSILON).movedim(-1, channels)
    return F.mse_loss(student, whitened) if beta is None else F.smooth_l1_loss(student, whitened, beta=beta)


@MODELS.register_module()
class WhitenedLoss(nn.Module):
    """:func:`whitened_distance`, averaged over channels, places and images.

    Args:
        beta: Of the smooth L1 distance, 2 in the paper; ``None`` for squares.

    Raises:
        ValueError: If ``beta`` is not above 0.
    """

    def __init__(self, beta: float | None = 2.0) -> None:
        super().__init__()
        if beta is not None:
            check_positive('beta', beta)
        self.beta = beta

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return whitened_distance(student, teacher, self.beta)

    def extra_repr(self) -> str:
        return f'beta={self.beta}'

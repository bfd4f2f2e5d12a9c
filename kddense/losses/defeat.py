"""DeFeat (Guo et al., "Distilling Object Detectors via Decoupled Features", CVPR 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kddense.losses._checks import check_same_shape
from kddense.losses.fgfi import masked_imitation
from kddense.registry import MODELS


def covered_mask(boxes: Tensor, image: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Which places of a map lie in a box: from the floor of one corner up to the floor of the other, at least one place.

    Args:
        boxes: Of one image, ``(G, 4)``, x1, y1, x2, y2, in pixels.
        image: Height and width of what the map covers, in pixels.
        size: Height and width of the map.

    Returns:
        Boolean, ``(H, W)``; all ``False`` without boxes.

    Example:
        >>> covered_mask(torch.tensor([[8.0, 0.0, 30.0, 3.0]]), (16, 32), (2, 4))
        tensor([[False,  True,  True, False],
                [False, False, False, False]])
    """
    last = boxes.new_tensor([size[1] - 1, size[0] - 1])
    scale = boxes.new_tensor([size[1] / image[1], size[0] / image[0]])
    low = torch.minimum((boxes[:, :2] * scale).floor().clamp(min=0), last)
    high = torch.maximum((boxes[:, 2:] * scale).floor(), low + 1)
    columns, rows = (
        (place >= low[:, axis, None]) & (place < high[:, axis, None])
        for axis, place in enumerate(torch.arange(length, device=boxes.device) for length in reversed(size))
    )
    return (rows[:, :, None] & columns[:, None, :]).any(dim=0)


def decoupled_distance(
    student: Tensor, teacher: Tensor, mask: Tensor, averages: tuple[float | Tensor, float | Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Half the mean squared differences in the foreground, and in the background.

    ``Σ M · (s - t)² / (2 C Σ M)``, averaged over channels and over the places of either, so that the few of the
    foreground are not drowned.

    Args:
        student: Features behind their connector, shape ``(N, C, H, W)``, of any floating dtype; computed in float32, or in
            float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        mask: True in the foreground, boolean, ``(N, 1, H, W)``.
        averages: By how many places either sum is divided; their numbers by default, at least 1.

    Returns:
        Two scalars; a 0 that back-propagates where there is no such place.

    Raises:
        ValueError: If the shapes do not fit.
    """
    check_same_shape(student=student, teacher=teacher)
    channels = max(student.shape[1], 1) if student.ndim > 1 else 1
    foreground, background = averages or (None, None)
    return (
        masked_imitation(student, teacher, mask, foreground) / channels,
        masked_imitation(student, teacher, ~mask, background) / channels,
    )


@MODELS.register_module()
class DecoupledLoss(nn.Module):
    """:func:`decoupled_distance`, averaged over channels, and over the places of foreground and of background."""

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        mask: Tensor,
        averages: tuple[float | Tensor, float | Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return both terms, scalars."""
        return decoupled_distance(student, teacher, mask, averages)

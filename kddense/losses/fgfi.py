"""FGFI (Wang et al., "Distilling Object Detectors with Fine-grained Feature Imitation", CVPR 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from kddense.losses._checks import check_same_shape, full_precision
from kddense.registry import MODELS


def near_object_mask(anchors: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Where a map is to be imitated: places with an anchor that overlaps a box about as much as any anchor does.

    For each box, anchors count whose IoU with it is above ``threshold`` times the greatest IoU that any anchor of the map
    has with it. A place counts if one of its anchors counts for one of the boxes.

    Args:
        anchors: Of all places, row by row, as many at each, ``(H·W·A, 4)``, x1, y1, x2, y2, in pixels.
        boxes: Ground truth of one image, ``(G, 4)``.
        size: Height and width of the map.
        threshold: The paper's ψ, from 0 to 1.

    Returns:
        Boolean, ``(H, W)``; all ``False`` without boxes.

    Raises:
        ValueError: If the anchors are not those of such a map, or ``threshold`` is not from 0 to 1.

    Example:
        >>> anchors = torch.tensor([[0.0, 0, 4, 4], [4, 0, 8, 4]])
        >>> near_object_mask(anchors, torch.tensor([[0.0, 0, 5, 4]]), (1, 2))
        tensor([[ True, False]])
    """
    check_threshold(threshold)
    places = size[0] * size[1]
    if places == 0 or len(anchors) % places:
        raise ValueError(f'{len(anchors)} anchors are not as many at each place of a map of {size[0]} x {size[1]}')
    if len(boxes) == 0:
        return torch.zeros(size, dtype=torch.bool, device=anchors.device)
    overlaps = box_iou(anchors.float(), boxes.float())
    near = (overlaps > threshold * overlaps.amax(dim=0)).any(dim=1)
    return near.view(*size, -1).any(dim=2)


def check_threshold(threshold: float) -> None:
    """Raise ``ValueError`` unless ``threshold`` is from 0 to 1."""
    if not 0 <= threshold <= 1:
        raise ValueError(f'threshold must be between 0 and 1, got {threshold}')


def masked_imitation(student: Tensor, teacher: Tensor, mask: Tensor, average: float | Tensor | None = None) -> Tensor:
    """Half the squared differences at the places of a mask, summed over channels: ``1 / (2 N_p) · Σ M · (s - t)²``.

    Args:
        student: Features behind their connector, shape ``(N, C, H, W)``, of any floating dtype; computed in float32, or in
            float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        mask: 1 at the places that count, 0 elsewhere, ``(N, 1, H, W)``.
        average: N_p; the number of places that count by default, at least 1.

    Returns:
        A scalar; a 0 that back-propagates if no place counts.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> teacher, mask = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> masked_imitation(torch.ones(1, 1, 2, 2), teacher.view(1, 1, 2, 2), mask.view(1, 1, 2, 2))
        tensor(1.2500)
    """
    check_same_shape(student=student, teacher=teacher)
    if student.ndim != 4 or mask.shape != (len(student), 1, *student.shape[2:]):
        raise ValueError(
            'student and teacher must be maps (N, C, H, W) with a mask (N, 1, H, W), got '
            f'{tuple(student.shape)} and {tuple(mask.shape)}'
        )
    student, teacher = full_precision(student, teacher.detach())
    mask = mask.to(student.dtype)
    squares = torch.where(mask > 0, mask * (student - teacher).square(), 0)
    return squares.sum() / (2 * (mask.sum().clamp(min=1) if average is None else average))


@MODELS.register_module()
class MaskedImitationLoss(nn.Module):
    """:func:`masked_imitation`, a sum over channels, averaged over the places that count."""

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor, average: float | Tensor | None = None) -> Tensor:
        """Return the loss, a scalar."""
        return masked_imitation(student, teacher, mask, average)

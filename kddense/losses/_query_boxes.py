"""Boxes of queries: centre and size relative to the image."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss

EPSILON = 1e-12  # boxes are relative to the image: one of a thousandth of its sides has an area of 1e-6


def overlap_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return one minus the generalised IoU of boxes pair by pair, shape ``(..., 4)`` to ``(...)``, finite also of points."""
    return generalized_box_iou_loss(*map(_corners, (student, teacher)), eps=EPSILON)


def pair_overlaps(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the generalised IoU of boxes ``(S, 4)`` and ``(T, 4)``, all with all, shape ``(S, T)``."""
    return generalized_box_iou(_corners(student), _corners(teacher))


def _corners(boxes: Tensor) -> Tensor:
    return box_convert(boxes, 'cxcywh', 'xyxy')

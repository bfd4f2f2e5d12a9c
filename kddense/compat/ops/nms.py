"""Non-maximum suppression: ``nms``, ``softnms``, ``nms_match``."""

from __future__ import annotations

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor


def _with_offset(boxes: Tensor, offset: int) -> Tensor:
    """Return boxes ``(N, 4)`` in at least float32 whose plain width is ``x2 - x1 + offset``."""
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
    return boxes + boxes.new_tensor([0, 0, offset, offset]) if offset else boxes


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Keep the boxes that overlap no kept box of higher score by more than ``iou_threshold``.

    Args:
        boxes: Corners x1, y1, x2, y2, shape ``(N, 4)``.
        scores: Shape ``(N,)``.
        iou_threshold: The IoU above which a box is dropped.
        offset: 0, or 1 where widths count pixels (``x2 - x1 + 1``).

    Returns:
        Indices of the kept boxes by falling score, shape ``(K,)``, int64.
    """
    boxes = _with_offset(boxes, offset)
    return torch.ops.torchvision.nms(boxes, scores.to(boxes.dtype), iou_threshold)

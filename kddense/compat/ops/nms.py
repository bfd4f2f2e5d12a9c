"""Non-maximum suppression: ``nms``, ``softnms``, ``nms_match``; and ``bbox_overlaps``."""

from __future__ import annotations

import numpy as np
import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

from ._common import compute_dtype


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
    boxes = boxes.to(compute_dtype(boxes))
    if offset:  # torchvision knows no offset, but moving the far corner is the same
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torch.ops.torchvision.nms(boxes, scores.to(boxes.dtype), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., ICCV 2017): boxes that overlap a picked box lose score instead of being dropped.

    Args:
        boxes: Shape ``(N, 4)``, on the CPU.
        scores: Shape ``(N,)``.
        dets: Filled in its first K rows: the picked boxes with their decayed scores, shape ``(N, 5)``.
        iou_threshold: From this IoU on, ``naive`` and ``linear`` decay.
        sigma: Width of the ``gaussian`` decay.
        min_score: A box whose score falls below is dropped.
        method: 0 naive (score to 0), 1 linear (times 1 - IoU), 2 gaussian (times exp(-IoU² / sigma)).
        offset: As in :func:`nms`.

    Returns:
        Indices in the order picked, shape ``(K,)``, int64.
    """
    corners = boxes.float().numpy()
    score = scores.float().numpy().copy()
    left = np.arange(len(corners))  # candidates; each round picks one and drops the faded
    picked = []
    while len(left):
        best = int(score[left].argmax())
        pick, left = left[best], np.delete(left, best)
        picked.append(pick)
        iou = _iou_with(corners[pick], corners[left], offset)
        score[left] *= _decay(iou, iou_threshold, sigma, method)
        left = left[~(score[left] < min_score)]
    index = torch.from_numpy(np.asarray(picked, dtype=np.int64))
    dets[: len(picked)] = torch.cat([boxes[index], torch.from_numpy(score)[index, None].to(boxes.dtype)], dim=1)
    return index


def _decay(iou: np.ndarray, iou_threshold: float, sigma: float, method: int) -> np.ndarray:
    if method == 2:
        return np.exp(-(iou**2) / np.float32(sigma))
    overlaps = iou >= np.float32(iou_threshold)
    return np.where(overlaps, 1 - iou if method == 1 else np.float32(0), np.float32(1))


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group every box with the kept box that suppresses it (at an IoU of at least ``iou_threshold``).

    Args:
        dets: Boxes with scores, shape ``(N, 5)``, on the CPU.
        iou_threshold: The IoU from which a box joins a group.

    Returns:
        One list of indices per kept box, by falling score; each starts with the kept box.
    """
    corners = dets[:, :4].float().numpy()
    left = dets[:, 4].sort(descending=True, stable=True).indices.numpy()
    groups = []
    while len(left):
        kept, left = left[0], left[1:]
        joins = _iou_with(corners[kept], corners[left], 0) >= np.float32(iou_threshold)
        groups.append([int(kept), *left[joins].tolist()])
        left = left[~joins]
    return groups


def _iou_with(box: np.ndarray, boxes: np.ndarray, offset: int) -> np.ndarray:
    """Return the IoU of one box ``(4,)`` with ``(N, 4)`` others; NaN for two boxes without area."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]) + offset
    overlap = sides.clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(axis=1)
    with np.errstate(invalid='ignore', divide='ignore'):
        return overlap / ((box[2:] - box[:2] + offset).prod() + areas - overlap)


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Fill ``ious`` with the overlap of every pair, or of pairs row by row.

    Args:
        bboxes1: Shape ``(M, 4)``.
        bboxes2: Shape ``(N, 4)``.
        ious: Shape ``(M, N)``, or ``(M,)`` if aligned.
        mode: 0 for intersection over union, 1 for intersection over the first box's area.
        aligned: Whether to compare row by row.
        offset: As in :func:`nms`.
    """
    first, second = (boxes.to(compute_dtype(boxes)) for boxes in (bboxes1, bboxes2))
    if not aligned:
        first = first[:, None]
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2]) + offset
    overlap = sides.clamp(min=0).prod(dim=-1)
    area = (first[..., 2:] - first[..., :2] + offset).prod(dim=-1)
    if mode == 0:
        area = area + (second[..., 2:] - second[..., :2] + offset).prod(dim=-1) - overlap
    ious.copy_(overlap / area.clamp(min=offset))

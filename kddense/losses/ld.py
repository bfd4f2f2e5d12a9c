"""Localization distillation (Zheng et al., "Localization Distillation for Dense Object Detection", CVPR 2022).

For heads that predict each edge of a box as a distribution over distances, such as GFL's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import box_area, box_iou, distance_box_iou

from kddense.losses._checks import check_choice, check_positive, check_same_shape, full_precision
from kddense.losses._softmax_divergence import softmax_divergence
from kddense.registry import MODELS


def localization_distillation(
    student: Tensor, teacher: Tensor, temperature: float = 10.0, mode: str = 'paper'
) -> Tensor:
    """Divergence of the student's box edges from the teacher's, each a distribution over ``n + 1`` distances.

    ``τ² · KL(softmax(t / τ) ‖ softmax(s / τ))``, averaged over the edges of a box.

    Args:
        student: Logits of the distances, shape ``(..., edges, n + 1)``, of any floating dtype; computed in float32, or in
            float64 if either input is.
        teacher: The teacher's for the same boxes, same shape. No gradient flows into it.
        temperature: The paper's τ, above 0; 10 worked best there.
        mode: ``'paper'`` sums over the distances, as a divergence does. ``'code'`` (the authors' and mmdet's
            ``KnowledgeDistillationKLDivLoss``) averages over them: ``n + 1`` times smaller.

    Returns:
        One value per box, shape ``(...)``; not averaged.

    Raises:
        ValueError: If the shapes differ or have fewer than two dimensions, ``temperature`` is not above 0 or ``mode`` is
            unknown.

    Example:
        >>> teacher, student = torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([[0.0, 1.0, 1.0]])
        >>> localization_distillation(student, teacher)
        tensor(0.3433)
        >>> localization_distillation(student, teacher, mode='code')
        tensor(0.1144)
    """
    check_same_shape(student=student, teacher=teacher)
    check_positive('temperature', temperature)
    check_choice('mode', mode, ('paper', 'code'))
    if student.ndim < 2 or 0 in student.shape[-2:]:
        raise ValueError(
            f'student and teacher must hold distributions of edges, shape (..., edges, n + 1), got {tuple(student.shape)}'
        )
    student, teacher = full_precision(student, teacher.detach())
    per_edge = softmax_divergence(student / temperature, teacher / temperature, dim=-1, student_first=False)
    scale = temperature**2 / (student.shape[-1] if mode == 'code' else 1)
    return scale * per_edge.mean(dim=-1)


def atss_thresholds(anchors: Tensor, boxes: Tensor, level_anchors: Sequence[int], topk: int = 9) -> Tensor:
    """IoU from which ATSS (Zhang et al., CVPR 2020) calls an anchor positive, for each ground-truth box.

    The mean plus the standard deviation of the IoUs of the box with its candidates: on every level, the ``topk`` anchors
    whose centres are nearest to its own.

    Args:
        anchors: Boxes ``(x1, y1, x2, y2)`` in pixels, level by level, shape ``(A, 4)``.
        boxes: Ground truth, likewise, shape ``(G, 4)``.
        level_anchors: How many anchors each level has; they add up to A.
        topk: How many anchors of a level are candidates.

    Returns:
        One threshold per box, shape ``(G,)``, in float32, or in float64 if an input is; NaN where there is one candidate.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0], [0.0, 0.0, 16.0, 16.0]])
        >>> atss_thresholds(anchors, torch.tensor([[0.0, 0.0, 8.0, 8.0]]), [2, 1])
        tensor([0.9371])
    """
    anchors, boxes = _checked_boxes(anchors, boxes)
    if sum(level_anchors) != len(anchors):
        raise ValueError(f'level_anchors must add up to the {len(anchors)} anchors, got {list(level_anchors)}')
    between = torch.cdist(_centres(anchors), _centres(boxes))
    nearest = []
    start = 0
    for count, level in zip(level_anchors, between.split(list(level_anchors)), strict=True):
        nearest.append(start + level.topk(min(topk, count), dim=0, largest=False).indices)
        start += count
    overlaps = box_iou(anchors, boxes).gather(0, torch.cat(nearest))
    return overlaps.mean(dim=0) + overlaps.std(dim=0)


def valuable_region(
    anchors: Tensor, boxes: Tensor, thresholds: Tensor, low: float = 0.25, mode: str = 'paper'
) -> Tensor:
    """Weights of the valuable localisation region: where an anchor knows something of a box that it is not assigned to.

    An anchor belongs to the region of a box if their distance-IoU lies in ``[low · t, t)``, with t the box's threshold. It
    weighs as much as their IoU; of several boxes, the greatest IoU counts. DIoU is at most IoU, so that a positive anchor
    whose centre is far from the box's may be in the region too.

    Args:
        anchors: Boxes ``(x1, y1, x2, y2)`` in pixels, shape ``(A, 4)``.
        boxes: Ground truth, likewise, shape ``(G, 4)``.
        thresholds: One per box, shape ``(G,)``; see :func:`atss_thresholds`.
        low: The paper's γ, the share of the threshold where the region begins, in (0, 1).
        mode: ``'paper'``: distance-IoU. ``'code'``: the authors divide the intersection by the anchor's area in it, and
            not by the union, which makes the region larger where anchors are smaller than the box.

    Returns:
        One weight per anchor, shape ``(A,)``, 0 outside the region; float32, or float64 if an input is.

    Raises:
        ValueError: If a shape does not fit, ``low`` is not in (0, 1) or ``mode`` is unknown.

    Example:
        >>> anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 4.0], [20.0, 0.0, 28.0, 8.0]])
        >>> valuable_region(anchors, torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.tensor([0.6]))
        tensor([0.0000, 0.5000, 0.0000])
    """
    anchors, boxes = _checked_boxes(anchors, boxes)
    if thresholds.shape != boxes.shape[:1]:
        raise ValueError(f'thresholds must have shape ({len(boxes)},), one per box, got {tuple(thresholds.shape)}')
    if not 0 < low < 1:
        raise ValueError(f'low must lie between 0 and 1, got {low}')
    check_choice('mode', mode, ('paper', 'code'))
    if not len(boxes):
        return anchors.new_zeros(len(anchors))
    distance, overlap = distance_box_iou(anchors, boxes), box_iou(anchors, boxes)
    if mode == 'code':
        distance = distance - overlap + _share_of_anchor(anchors, boxes)
    inside = (distance >= low * thresholds) & (distance < thresholds)
    return torch.where(inside, overlap, torch.zeros_like(overlap)).amax(dim=1)


@MODELS.register_module()
class LDLoss(nn.Module):
    """:func:`localization_distillation` of boxes of different weight.

    Args:
        temperature: The paper's τ, above 0.
        mode: ``'paper'`` or ``'code'``.

    Raises:
        ValueError: If ``temperature`` is not above 0 or ``mode`` is unknown.

    Example:
        >>> teacher, student = torch.tensor([[[0.0, 2.0, 0.0]]]), torch.tensor([[[0.0, 1.0, 1.0]]])
        >>> LDLoss()(student, teacher, weight=torch.tensor([0.5]), avg_factor=2)
        tensor(0.0858)
    """

    def __init__(self, temperature: float = 10.0, mode: str = 'paper') -> None:
        super().__init__()
        check_positive('temperature', temperature)
        check_choice('mode', mode, ('paper', 'code'))
        self.temperature = temperature
        self.mode = mode

    def forward(
        self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, avg_factor: float | Tensor | None = None
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            student: Logits, shape ``(P, edges, n + 1)``.
            teacher: Same shape.
            weight: One per box, shape ``(P,)``; 1 by default. No gradient flows into it.
            avg_factor: What to divide the weighted sum over boxes by; the number of boxes by default. Where it is 0, no
                box counts, and the loss is 0.

        Raises:
            ValueError: If there is not one weight per box, or as :func:`localization_distillation`.
        """
        per_box = localization_distillation(student, teacher, self.temperature, self.mode)
        if weight is not None:
            check_same_shape(boxes=per_box, weight=weight)
            per_box = weight.detach() * per_box
        count = torch.as_tensor(max(len(per_box), 1) if avg_factor is None else avg_factor).to(per_box)
        return per_box.sum() * torch.where(count > 0, 1 / torch.where(count > 0, count, 1), 0)

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}, mode={self.mode!r}'


def _checked_boxes(anchors: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
    for name, rows in (('anchors', anchors), ('boxes', boxes)):
        if rows.ndim != 2 or rows.shape[1] != 4:
            raise ValueError(f'{name} must be rows (x1, y1, x2, y2), got shape {tuple(rows.shape)}')
    return full_precision(anchors, boxes)


def _share_of_anchor(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Return which share of each anchor lies in each box, shape ``(A, G)``."""
    corner, opposite = (
        torch.maximum(anchors[:, None, :2], boxes[:, :2]),
        torch.minimum(anchors[:, None, 2:], boxes[:, 2:]),
    )
    return (opposite - corner).clamp(min=0).prod(dim=2) / box_area(anchors)[:, None].clamp(min=1e-6)


def _centres(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2

"""GID (Dai et al., "General Instance Distillation for Object Detection", CVPR 2021)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou, clip_boxes_to_image, nms

from kddense.losses._checks import check_same_shape, full_precision
from kddense.losses.rkd import distance_relation


@torch.no_grad()
def general_instances(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    image: tuple[int, int],
    most: int = 10,
    overlap: float = 0.3,
    candidates: int = 3000,
    smallest: float = 10.0,
) -> Tensor:
    """Find the boxes of an image about which the two networks differ most, whatever the ground truth says.

    A place counts by the greatest difference of the two networks' probabilities over the classes, and its box is that of the
    network that is surer of a class there. Boxes are cut to the image; of those that overlap, that which counts most stays.

    Args:
        student: Logits of classes that are decided each on its own, ``(L, K)``, and boxes ``(L, 4)``, x1, y1, x2, y2, in
            pixels.
        teacher: The teacher's, same shapes.
        image: Height and width, in pixels.
        most: How many boxes are kept.
        overlap: IoU above which the lesser of two boxes is left out.
        candidates: How many places are looked at, those that count most.
        smallest: Sides in pixels above which a box counts.

    Returns:
        Boxes ``(M, 4)`` with M at most ``most``, those that count most first.

    Example:
        >>> logits, boxes = torch.tensor([[0.0], [0.0]]), torch.tensor([[0.0, 0, 20, 20], [50, 50, 80, 80]])
        >>> general_instances((logits, boxes), (torch.tensor([[0.0], [2.0]]), boxes + 1), (100, 100), most=1)
        tensor([[51., 51., 81., 81.]])
    """
    own, other = (side[0].sigmoid() for side in (student, teacher))
    score = (own - other).abs().amax(dim=1)
    surer = other.amax(dim=1) > own.amax(dim=1)
    boxes = clip_boxes_to_image(torch.where(surer[:, None], teacher[1], student[1]).float(), image)
    sides = boxes[:, 2:] - boxes[:, :2]
    fit = ((sides > smallest).all(dim=1) & boxes.isfinite().all(dim=1) & score.isfinite()).nonzero().squeeze(1)
    best = fit[score[fit].topk(min(candidates, len(fit))).indices]
    return boxes[best][nms(boxes[best], score[best].float(), overlap)[:most]]


def instance_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared differences of the features of instances, summed over channels, averaged over places and instances.

    Args:
        student: Features of each instance behind their connector, ``(M, C, h, w)``, of any floating dtype; computed in
            float32, or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.

    Returns:
        A scalar; without instances, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes differ.
    """
    check_same_shape(student=student, teacher=teacher)
    student, teacher = full_precision(student, teacher.detach())
    places = student.numel() // max(student.shape[1], 1)
    return F.mse_loss(student, teacher, reduction='sum') / max(places, 1)


def instance_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """How far apart instances are, each network's distances by their mean: Huber loss, averaged over pairs of two.

    That is :func:`kddense.losses.distance_relation` without the zeros of its diagonal. Fewer than three instances teach
    nothing.

    Args:
        student: Features of each instance, ``(M, ...)``, of any floating dtype; computed in float32, or in float64 if either
            input is.
        teacher: The teacher's, ``(M, ...)``. No gradient flows into it.

    Returns:
        A scalar; a 0 that back-propagates for fewer than three instances.
    """
    count = len(student)
    if count < 3:
        return student.sum().float() * 0
    return distance_relation(student.flatten(1), teacher.flatten(1)) * (count / (count - 1))


def response_distance(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Differences of what both heads say at places: binary cross-entropy of classes, absolute ones of boxes.

    Args:
        student: Logits ``(P, K)`` and boxes in the head's own space ``(P, 4)``, of any floating dtype; computed in
            float32, or in float64 if either input is.
        teacher: The teacher's, same shapes. No gradient flows into them.

    Returns:
        Two scalars, sums over classes and over the four numbers of a box, averaged over places; without places, 0s that
        back-propagate.

    Raises:
        ValueError: If the shapes differ.
    """
    own, other = full_precision(student[0], teacher[0].detach())
    boxes, their_boxes = full_precision(student[1], teacher[1].detach())
    check_same_shape(student=own, teacher=other)
    check_same_shape(boxes=boxes, their_boxes=their_boxes)
    classes = F.binary_cross_entropy_with_logits(own, other.sigmoid(), reduction='sum')
    return classes / max(len(own), 1), F.l1_loss(boxes, their_boxes, reduction='sum') / max(len(boxes), 1)


@torch.no_grad()
def near_instances(anchors: Tensor, instances: Tensor, threshold: float = 0.5) -> Tensor:
    """Which anchors belong to instances: whose IoU with one is at least ``threshold``, and the best one of each.

    Args:
        anchors: ``(L, 4)``, x1, y1, x2, y2.
        instances: ``(M, 4)``.
        threshold: From 0 to 1.

    Returns:
        Boolean, ``(L,)``; all ``False`` without instances.

    Example:
        >>> anchors = torch.tensor([[0.0, 0, 4, 4], [4, 0, 8, 4], [9, 0, 13, 4]])
        >>> near_instances(anchors, torch.tensor([[0.0, 0, 5, 4], [9, 0, 18, 8]]))
        tensor([ True, False,  True])
    """
    if len(instances) == 0:
        return torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    overlaps = box_iou(anchors.float(), instances.float())
    best = overlaps.amax(dim=0)
    return ((overlaps >= threshold) | ((overlaps == best) & (best > 0))).any(dim=1)

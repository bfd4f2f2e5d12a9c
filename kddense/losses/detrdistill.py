"""DETRDistill (Chang et al., "DETRDistill: A Universal Knowledge Distillation Framework for DETR-families", ICCV 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import check_not_negative, check_same_shape, full_precision
from kddense.losses._query_boxes import overlap_distance, pair_overlaps
from kddense.losses._softmax_divergence import finite_logits, softmax_divergence
from kddense.losses._squares import squares_per_image
from kddense.losses.kd_detr import QueryDistance
from kddense.registry import MODELS

LEAST = 0.01  # of a mask
WORST = 1e6  # what stands in a cost for numbers that are none: a student that diverged shows it by its loss


@torch.no_grad()
def match_predictions(
    student_logits: Tensor,
    student_boxes: Tensor,
    teacher_logits: Tensor,
    teacher_boxes: Tensor,
    sigmoid: bool = True,
    costs: Sequence[float] = (1.0, 5.0, 2.0),
) -> tuple[Tensor, Tensor]:
    """Match the predictions of two models for one image, each with at most one of the other's, at the least cost.

    The cost of a pair is ``λ_cls · H(t, s) + λ_L1 · Σ |b_s - b_t| - λ_iou · GIoU``, with H the cross-entropy of the
    student's classes with the teacher's probabilities, summed over classes.

    Args:
        student_logits: Shape ``(S, K)``.
        student_boxes: Centre and size relative to the image, shape ``(S, 4)``.
        teacher_logits: Shape ``(T, K)``.
        teacher_boxes: Shape ``(T, 4)``.
        sigmoid: Whether each class is decided on its own; else by a softmax.
        costs: λ of classes, of L1 and of overlaps.

    Returns:
        Rows of the student and of the teacher, ``min(S, T)`` each.

    Raises:
        ValueError: If a cost is below 0.
    """
    from scipy.optimize import linear_sum_assignment

    for one in costs:
        check_not_negative('costs', one)
    own, other, boxes, targets = full_precision(student_logits, teacher_logits, student_boxes, teacher_boxes)
    by_classes, by_distance, by_overlap = costs
    cost = by_classes * _pair_cross_entropy(own, other, sigmoid) + by_distance * torch.cdist(boxes, targets, p=1)
    cost = (cost - by_overlap * pair_overlaps(boxes, targets)).nan_to_num(WORST, WORST, -WORST)
    rows, columns = linear_sum_assignment(np.asarray(cost.cpu()))
    return tuple(torch.from_numpy(one).to(own.device) for one in (rows, columns))  # type: ignore[return-value]


def _pair_cross_entropy(student: Tensor, teacher: Tensor, sigmoid: bool) -> Tensor:
    if not sigmoid:
        return -student.log_softmax(-1) @ teacher.softmax(-1).T
    target = finite_logits(teacher).sigmoid()
    return -(F.logsigmoid(student) @ target.T + F.logsigmoid(-student) @ (1 - target).T)


def matched_distance(
    student_logits: Tensor,
    student_boxes: Tensor,
    teacher_logits: Tensor,
    teacher_boxes: Tensor,
    sigmoid: bool = True,
    divisor: Tensor | float | None = None,
) -> QueryDistance:
    """Distance of two models in matched predictions: row n of the one is matched with row n of the other.

    ``classes = Σ over pairs and classes of KL(Bernoulli(σ(t)) ‖ Bernoulli(σ(s))) / P``,
    ``boxes = Σ |b_s - b_t| / P``, ``overlaps = Σ (1 - GIoU) / P`` for P pairs; classes and the four numbers of a box are
    summed. Where classes exclude one another, the KL of the softmax with the background.

    From the released code, whose term of classes is the binary cross-entropy: that is this one and the teacher's own
    entropy, with the same gradient; this one is 0 where both agree.

    Args:
        student_logits: Shape ``(P, K)``, of any floating dtype; computed in float32, or in float64 if an input is.
        student_boxes: Centre and size relative to the image, shape ``(P, 4)``.
        teacher_logits: As the student's. No gradient flows into the teacher's.
        teacher_boxes: As the student's.
        sigmoid: Whether each class is decided on its own.
        divisor: What stands for P, of all processes say; the number of rows by default.

    Returns:
        Three scalars; zeros that back-propagate if nothing is matched.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, -1.0]])
        >>> boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
        >>> matched_distance(student, boxes, teacher, boxes + torch.tensor([0.1, 0.0, 0.0, 0.0]))
        QueryDistance(classes=tensor(0.1781), boxes=tensor(0.1000), overlaps=tensor(0.6667))
    """
    check_same_shape(student_logits=student_logits, teacher_logits=teacher_logits)
    check_same_shape(student_boxes=student_boxes, teacher_boxes=teacher_boxes)
    own, other = full_precision(student_logits, teacher_logits.detach())
    boxes, targets = full_precision(student_boxes, teacher_boxes.detach())
    if sigmoid:
        other = finite_logits(other)
        target = other.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(other, target, reduction='none')
        of_classes = F.binary_cross_entropy_with_logits(own, target, reduction='none') - entropy
    else:
        of_classes = softmax_divergence(own, other, -1, student_first=False)
    pairs = len(own) if divisor is None else divisor
    total = pairs + (pairs == 0)
    return QueryDistance(
        of_classes.sum() / total,
        (boxes - targets).abs().sum() / total,
        overlap_distance(boxes, targets).sum() / total,
    )


def query_quality(probabilities: Tensor, overlaps: Tensor, top: int = 100, gamma: float | None = None) -> Tensor:
    """How much each query knows of the objects: ``Σ over its chosen classes of p · IoU``.

    Chosen are the ``top`` most likely pairs of a query and a class in each image.

    From the released code: all of it. The paper has ``p ** γ · IoU ** (1 - γ)``, with a ``gamma``.

    Args:
        probabilities: Of classes that are no background, shape ``(N, Q, K)``.
        overlaps: The IoU of each query's box with the object that it covers best, shape ``(N, Q)``; 1 in images without
            objects.
        top: How many pairs of an image count, at least 1.
        gamma: The paper's γ, in 0..1; ``None`` for the product.

    Returns:
        Shape ``(N, Q)``, at least 0.

    Raises:
        ValueError: If ``top`` or ``gamma`` is out of its range.

    Example:
        >>> query_quality(torch.tensor([[[0.5, 0.1], [0.4, 0.3]]]), torch.tensor([[0.5, 1.0]]), top=3)
        tensor([[0.2500, 0.7000]])
    """
    check_quality(top, gamma)
    flat = probabilities.flatten(1)
    values, places = flat.topk(min(top, flat.shape[1]))
    likely = torch.zeros_like(flat).scatter(1, places, values).unflatten(1, probabilities.shape[1:])
    if gamma is None:
        return likely.sum(2) * overlaps
    return (likely**gamma * (likely > 0)).sum(2) * overlaps ** (1 - gamma)


def check_quality(top: int, gamma: float | None) -> None:
    """Raise ``ValueError`` if an option of :func:`query_quality` is out of its range."""
    if top < 1:
        raise ValueError(f'top must be at least 1, got {top}')
    if gamma is not None and not 0 <= gamma <= 1:
        raise ValueError(f'gamma must be None or in 0..1, got {gamma}')


def target_mask(features: Tensor, states: Tensor, quality: Tensor) -> Tensor:
    """Where the objects of queries are: ``max(Σ over queries of quality · cos(state, feature), 0.01)``, over its greatest.

    As in the released code. If no place has more than 0.01, all have 1.

    Args:
        features: The teacher's map, shape ``(N, C, h, w)``, of any floating dtype; computed in float32, or in float64 if an
            input is.
        states: What its decoder made of the queries, shape ``(N, Q, C)``.
        quality: How much each query counts, shape ``(N, Q)``.

    Returns:
        Shape ``(N, 1, h, w)``, without a gradient.

    Raises:
        ValueError: If features and states have different channels.
    """
    if features.shape[1] != states.shape[2]:
        raise ValueError(
            f'features have {features.shape[1]} channels and states {states.shape[2]}: they must have as many'
        )
    features, states, quality = full_precision(features.detach(), states.detach(), quality.detach())
    # Sums of products, as autocast would compute matrix products in low precision.
    direction = (quality[:, :, None] * F.normalize(states, dim=2)).sum(1)
    mask = (direction[:, :, None, None] * F.normalize(features, dim=1)).sum(1, keepdim=True).clamp(min=LEAST)
    return mask / mask.amax((1, 2, 3), keepdim=True) if mask.numel() else mask


def target_aware_distance(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared differences where the objects are: the mean over images, channels and places of ``(mask · (t - s))²``.

    Args:
        student: Features behind their connector, shape ``(N, C, h, w)``, of any floating dtype; computed in float32, or in
            float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        mask: See :func:`target_mask`.

    Returns:
        A scalar; for empty maps, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> student, teacher = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 2.0]]]])
        >>> target_aware_distance(student, teacher, torch.tensor([[[[1.0, 0.5]]]]))
        tensor(1.)
    """
    return squares_per_image(student, teacher.detach(), mask.square()) / max(teacher[:1].numel(), 1)


@MODELS.register_module()
class MatchedLoss(nn.Module):
    """:func:`matched_distance` of the pairs that :func:`match_predictions` finds in each image.

    Args:
        costs: What classes, L1 and overlaps count in the matching.

    Raises:
        ValueError: If a cost is below 0, or there are not three.
    """

    def __init__(self, costs: Sequence[float] = (1.0, 5.0, 2.0)) -> None:
        super().__init__()
        if len(costs) != 3:
            raise ValueError(f'costs must be three numbers, of classes, L1 and overlaps, got {list(costs)}')
        for cost in costs:
            check_not_negative('costs', cost)
        self.costs = tuple(costs)

    def pairs(
        self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], counts: Tensor, sigmoid: bool
    ) -> tuple[Tensor, Tensor]:
        """Return which rows are matched, of N images put together.

        Args:
            student: Logits ``(N, S, K)`` and boxes ``(N, S, 4)``.
            teacher: Logits ``(N, T, K)`` and boxes ``(N, T, 4)``.
            counts: Which of the teacher's predictions count, boolean, ``(N, T)``.
            sigmoid: Whether each class is decided on its own.
        """
        ours, theirs = [], []
        for image, kept in enumerate(counts):
            chosen = kept.nonzero().squeeze(1)
            own, other = match_predictions(
                student[0][image],
                student[1][image],
                teacher[0][image][chosen],
                teacher[1][image][chosen],
                sigmoid,
                self.costs,
            )
            ours.append(own + image * student[0].shape[1])
            theirs.append(chosen[other] + image * kept.numel())
        return torch.cat(ours), torch.cat(theirs)

    def forward(
        self,
        student: tuple[Tensor, Tensor],
        teacher: tuple[Tensor, Tensor],
        pairs: tuple[Tensor, Tensor],
        sigmoid: bool,
        divisor: Tensor | float | None = None,
    ) -> QueryDistance:
        """Return three scalars, of classes, boxes and overlaps, for rows that are matched."""
        logits, boxes = (value.flatten(0, 1)[pairs[0]] for value in student)
        target_logits, targets = (value.flatten(0, 1)[pairs[1]] for value in teacher)
        return matched_distance(logits, boxes, target_logits, targets, sigmoid, divisor)

    def extra_repr(self) -> str:
        return f'costs={self.costs}'

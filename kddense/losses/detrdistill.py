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
from kddense.losses.kd_detr import QueryDistance
from kddense.registry import MODELS

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

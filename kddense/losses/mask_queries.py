"""Masks of queries, matched and compared: the form of DETRDistill (Chang et al., ICCV 2023), of masks for boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kddense.losses._checks import check_same_shape, full_precision
from kddense.losses._softmax_divergence import finite_logits, softmax_divergence
from kddense.losses.detrdistill import WORST
from kddense.losses.dice import EPSILON


class MaskQueryDistance(NamedTuple):
    """How far two models are apart in what they say of matched queries, each a scalar."""

    classes: Tensor
    masks: Tensor
    dice: Tensor


@torch.no_grad()
def match_masks(
    student_logits: Tensor,
    student_masks: Tensor,
    teacher_logits: Tensor,
    teacher_masks: Tensor,
    costs: Sequence[float] = (2.0, 5.0, 5.0),
) -> tuple[Tensor, Tensor]:
    """Match the queries of two models for one image, each with at most one of the other's, at the least cost.

    The cost of a pair is that of classes (cross-entropy with the teacher's softmax), of cells (binary cross-entropy with
    the teacher's mask, a mean over cells) and one minus the Dice coefficient, with squares.

    Args:
        student_logits: Shape ``(S, K + 1)``.
        student_masks: Logits, shape ``(S, h, w)``.
        teacher_logits: Shape ``(T, K + 1)``.
        teacher_masks: Shape ``(T, h, w)``.
        costs: What classes, cells and Dice count.

    Returns:
        Rows of the student and of the teacher, ``min(S, T)`` each.
    """
    from scipy.optimize import linear_sum_assignment

    own, other = full_precision(student_logits, teacher_logits)
    masks, targets = (one.flatten(1) for one in full_precision(student_masks, finite_logits(teacher_masks)))
    target, drawn = targets.sigmoid(), masks.sigmoid()
    cells = -(F.logsigmoid(masks) @ target.T + F.logsigmoid(-masks) @ (1 - target).T) / max(masks.shape[1], 1)
    squares = drawn.square().sum(1)[:, None] + target.square().sum(1)[None]
    dice = 1 - (2 * drawn @ target.T + EPSILON) / (squares + EPSILON)
    classes = -own.log_softmax(-1) @ other.softmax(-1).T
    cost = (costs[0] * classes + costs[1] * cells + costs[2] * dice).nan_to_num(WORST, WORST, -WORST)
    rows, columns = linear_sum_assignment(np.asarray(cost.cpu()))
    return torch.from_numpy(rows).to(own.device), torch.from_numpy(columns).to(own.device)


def matched_mask_distance(
    student_logits: Tensor,
    student_masks: Tensor,
    teacher_logits: Tensor,
    teacher_masks: Tensor,
    weight: Tensor,
    divisors: tuple[Tensor | float, Tensor | float] | None = None,
) -> MaskQueryDistance:
    """Distance of two models in matched queries: row n of the one is matched with row n of the other.

    ``classes = Σ KL(softmax(t) ‖ softmax(s)) / P``, ``masks = Σ w · mean over cells of KL(σ(t) ‖ σ(s)) / Σ w`` and
    ``dice = Σ w · (1 - Dice) / Σ w`` for P pairs.

    Args:
        student_logits: Shape ``(P, K + 1)``, of any floating dtype; computed in float32, or in float64 if an input is.
        student_masks: Logits, shape ``(P, h, w)``.
        teacher_logits: As the student's. No gradient flows into the teacher's.
        teacher_masks: As the student's.
        weight: How much the mask of a pair counts, shape ``(P,)``.
        divisors: What stands for P and for Σ w, of all processes say.

    Returns:
        Three scalars; zeros that back-propagate if nothing is matched.

    Raises:
        ValueError: If shapes do not fit.
    """
    check_same_shape(student_logits=student_logits, teacher_logits=teacher_logits)
    check_same_shape(student_masks=student_masks, teacher_masks=teacher_masks)
    own, other, weight = full_precision(student_logits, teacher_logits.detach(), weight.detach())
    masks, targets = (one.flatten(1) for one in full_precision(student_masks, finite_logits(teacher_masks.detach())))
    pairs, total = divisors or (len(own), weight.sum())
    pairs, total = pairs + (pairs == 0), total + (total == 0)
    target, drawn = targets.sigmoid(), masks.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(targets, target, reduction='none')
    cells = (F.binary_cross_entropy_with_logits(masks, target, reduction='none') - entropy).sum(1) / max(
        masks.shape[1], 1
    )
    both, squares = 2 * (drawn * target).sum(1), drawn.square().sum(1) + target.square().sum(1)
    return MaskQueryDistance(
        softmax_divergence(own, other, -1, student_first=False).sum() / pairs,
        (weight * cells).sum() / total,
        (weight * (1 - (both + EPSILON) / (squares + EPSILON))).sum() / total,
    )

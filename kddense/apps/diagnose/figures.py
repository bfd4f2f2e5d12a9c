"""What the samples of a run say of student and teacher: agreement, calibration, entropy, gap, geometry, reach."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kddense.evaluation.linear_theory import angles, reachable_share, transfer_risk_bound

from .observer import Heard

BINS = 15


def joined(heard: Sequence[Heard]) -> Heard:
    """Return the samples of several batches as one."""
    features = [
        None if getattr(heard[0], name) is None else torch.cat([getattr(one, name) for one in heard])
        for name in ('student_feature', 'teacher_feature')
    ]
    return Heard(
        *(torch.cat([getattr(one, name) for one in heard]) for name in ('student', 'teacher', 'labels')), *features
    )


def agreement(heard: Heard, sigmoid: bool) -> dict[str, float]:
    """Return how far student and teacher agree, and how each stands to the labels.

    Returns:
        ``top1``: share of samples with one best guess; ``divergence``: mean of KL(teacher ‖ student), in nats;
        ``teacher_entropy``: of its probabilities, in nats (over sigmoid classes summed); ``student_accuracy``,
        ``teacher_accuracy`` and ``gap``, the second less the first; ``student_ece``, ``teacher_ece``: expected calibration
        error over 15 bins.
    """
    (own, sure), (other, as_sure) = (_guess(one, sigmoid) for one in (heard.student, heard.teacher))
    right, taught_right = (guess == heard.labels for guess in (own, other))
    accuracy, taught_accuracy = (float(one.double().mean()) for one in (right, taught_right))
    return {
        'top1': float((own == other).double().mean()),
        'divergence': _divergence(heard.student, heard.teacher, sigmoid),
        'teacher_entropy': _entropy(heard.teacher, sigmoid),
        'student_accuracy': accuracy,
        'teacher_accuracy': taught_accuracy,
        'gap': taught_accuracy - accuracy,
        'student_ece': calibration_error(sure, right),
        'teacher_ece': calibration_error(as_sure, taught_right),
    }


def calibration_error(confidence: Tensor, right: Tensor, bins: int = BINS) -> float:
    """Return ``Σ_b n_b / n · |accuracy_b - confidence_b|`` over equal bins of confidence, from 0 to 1."""
    place = (confidence * bins).long().clamp(max=bins - 1)
    difference = torch.zeros(bins, dtype=torch.double).index_add(0, place, right.double() - confidence.double())
    return float(difference.abs().sum() / max(len(confidence), 1))


def geometry(heard: Heard, weight: Tensor) -> dict[str, float]:
    """Return Phuong and Lampert's quantities on the teacher's last linear layer; means over classes.

    Each class's weight, less the mean of all, is a linear teacher of what its classifier reads.

    Args:
        heard: With features.
        weight: Of the teacher's classifier, ``(C, F')``.

    Returns:
        ``angle``: median over samples of the angle between weight and sample, in degrees; ``bound``: on the share of samples
        on which a linear student of that many differs; ``span``: how much of the weight samples span; ``reach``: how much
        of the teacher's logits (of their variance) a linear classifier on the *student's* features can follow.
    """
    assert heard.teacher_feature is not None
    assert heard.student_feature is not None
    data = heard.teacher_feature.double()
    centred = weight.double() - weight.double().mean(0)
    found = [angles(one, data) for one in centred]
    return {
        'samples': float(len(data)),
        'angle': statistics.mean(math.degrees(float(one.median())) for one in found),
        'bound': statistics.mean(transfer_risk_bound(one, len(data)) for one in found),
        'span': statistics.mean(reachable_share(one, data) for one in centred),
        'reach': explained_share(heard.student_feature.double(), data @ centred.T),
    }


def explained_share(features: Tensor, targets: Tensor) -> float:
    """Return how much of the variance of targets the best linear function of features, with a constant, explains."""
    inputs = torch.cat([features, torch.ones(len(features), 1, dtype=features.dtype)], dim=1)
    fit = inputs @ torch.linalg.lstsq(inputs, targets, driver='gelsd').solution
    left, whole = (targets - fit).square().sum(), (targets - targets.mean(0)).square().sum()
    return float(1 - left / whole.clamp(min=torch.finfo(whole.dtype).tiny))


def angle_of(cosine: float) -> float:
    """Return the angle of a cosine in degrees."""
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def _guess(logits: Tensor, sigmoid: bool) -> tuple[Tensor, Tensor]:
    """Return the best class of each sample and how sure it is; of sigmoid classes none is one too."""
    if not sigmoid:
        best = logits.softmax(1).max(1)
        return best.indices, best.values
    best = logits.sigmoid().max(1)
    none = best.values < 0.5
    return torch.where(none, logits.shape[1], best.indices), torch.where(none, 1 - best.values, best.values)


def _divergence(student: Tensor, teacher: Tensor, sigmoid: bool) -> float:
    if sigmoid:
        target = teacher.sigmoid()
        cross = F.binary_cross_entropy_with_logits(student, target, reduction='none').sum(1).mean()
        return float(cross) - _entropy(teacher, sigmoid)
    return float(F.kl_div(student.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction='batchmean'))


def _entropy(logits: Tensor, sigmoid: bool) -> float:
    if sigmoid:
        return float(F.binary_cross_entropy_with_logits(logits, logits.sigmoid(), reduction='none').sum(1).mean())
    return float(-(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean())


def numbers_of(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures rounded for people, nested as they are."""
    return {
        key: numbers_of(one) if isinstance(one, dict) else round(one, 4) if isinstance(one, float) else one
        for key, one in figures.items()
    }

"""CRD (Tian, Krishnan, Isola, "Contrastive Representation Distillation", ICLR 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kddense.losses._checks import check_mask, check_positive, check_same_shape, full_precision, mean_over
from kddense.losses._vectors import inner_products, unit_vectors


def noise_contrastive_estimation(
    positive: Tensor,
    negative: Tensor,
    log_constant: float | Tensor,
    total: int,
    temperature: float = 0.07,
    mask: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of telling an anchor's own vector from K others, as the paper and its code have it.

    With ``e = exp(s / τ) / Z`` of a similarity s, ``h = e / (e + K / M)`` is the probability that a pair belongs together;
    the loss is ``-log h`` of the pair plus the sum over the K others of ``-log(1 - h)``, averaged over anchors. One of two
    directions: the student's anchors against the teacher's memory, and the other way round. Computed in logarithms.

    Args:
        positive: Similarities of the anchors with their own, shape ``(N,)``, of any floating dtype; computed in float32, or
            in float64 if either input is.
        negative: Similarities with others, shape ``(N, K)``.
        log_constant: The logarithm of Z, a constant that brings the mean of e to 1 / M.
        total: M, the number of vectors in the memory, at least 1.
        temperature: The paper's τ, above 0.
        mask: True where an entry of ``negative`` counts, boolean, same shape. K is then the number of those of the anchor;
            an anchor that has none does not count.

    Returns:
        A scalar; if no anchor counts, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes do not fit, or a number is out of its range.

    Example:
        >>> positive, negative = torch.tensor([0.8]), torch.tensor([[0.1, -0.2]])
        >>> noise_contrastive_estimation(positive, negative, math.log(1000), total=1000, temperature=0.1)
        tensor(0.9244)
    """
    check_positive('temperature', temperature)
    check_positive('total', total)
    if positive.ndim != 1 or negative.ndim != 2 or len(positive) != len(negative):
        raise ValueError(
            f'positive must have shape (N,) and negative (N, K), got {tuple(positive.shape)} and {tuple(negative.shape)}'
        )
    check_mask(mask, negative.shape)
    positive, negative = full_precision(positive, negative)
    kept = torch.ones_like(negative, dtype=torch.bool) if mask is None else mask
    counts = kept.sum(1)
    noise = (counts.clamp(min=1).to(positive) / total).log()
    own = F.logsigmoid(positive / temperature - log_constant - noise)
    others = F.logsigmoid(noise[:, None] - negative / temperature + log_constant).masked_fill(~kept, 0)
    return mean_over(-own - others.sum(1), counts > 0)


def info_nce(student: Tensor, teacher: Tensor, temperature: float = 0.07, excluded: Tensor | None = None) -> Tensor:
    """Cross-entropy of finding, among the teacher's vectors of a batch, the one of the same sample.

    ``mean over i of -log softmax over j of (s_i · t_j / τ)`` at j = i, with vectors of length 1: CRD without a memory.

    Args:
        student: Vectors, shape ``(N, C)``, of any floating dtype; computed in float32, or in float64 if either input is.
        teacher: Same shape, not detached: the layer that made it may learn.
        temperature: Above 0.
        excluded: True where j is no negative of i, such as one of the same class, boolean, ``(N, N)``.

    Returns:
        A scalar; for fewer than two vectors, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes do not fit, or ``temperature`` is not above 0.
    """
    check_same_shape(student=student, teacher=teacher)
    check_positive('temperature', temperature)
    if student.ndim != 2:
        raise ValueError(f'student and teacher must be rows of shape (N, C), got {tuple(student.shape)}')
    check_mask(excluded, (len(student), len(student)))
    student, teacher = full_precision(student, teacher)
    if len(student) < 2:
        return student.sum() * 0 + teacher.sum() * 0
    scores = inner_products(unit_vectors(student), unit_vectors(teacher)) / temperature
    if excluded is not None:
        scores = scores.masked_fill(
            excluded & ~torch.eye(len(scores), dtype=torch.bool, device=scores.device), -torch.inf
        )
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))

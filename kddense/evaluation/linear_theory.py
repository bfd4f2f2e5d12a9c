"""What can be said of distilling a linear classifier (Phuong and Lampert, ICML 2019): what is learnt, and how well."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def learnt_weight(teacher: Tensor, data: Tensor) -> Tensor:
    """Return the weight that a linear student learns of a linear teacher by gradient descent from 0 (their theorem 1).

    The projection of the teacher's weight on the span of the data: all of it if the data span the space. Gradients are sums
    of data, so nothing else is ever reached; within the span the loss has one minimum.

    Args:
        teacher: The teacher's weight w*, shape ``(d,)``.
        data: One sample a row, shape ``(n, d)``.

    Returns:
        Shape ``(d,)``.
    """
    _, sizes, rows = torch.linalg.svd(data, full_matrices=False)
    tolerance = max(data.shape) * torch.finfo(data.dtype).eps * (sizes.max() if sizes.numel() else 0)
    basis = rows[sizes > tolerance]
    return basis.T @ (basis @ teacher)


def reachable_share(teacher: Tensor, data: Tensor) -> float:
    """Return the length of what a student can reach of a teacher's weight, as a share of the whole: 1 if all of it."""
    return float(learnt_weight(teacher, data).norm() / teacher.norm())


def angles(teacher: Tensor, data: Tensor) -> Tensor:
    """Return the unsigned angles between a teacher's weight and each sample, from 0 to π/2, shape ``(n,)``.

    Small ones mean that classes lie apart as the teacher cuts them: few samples then suffice.
    """
    cosine = (data @ teacher).abs() / (data.norm(dim=1) * teacher.norm()).clamp(min=torch.finfo(data.dtype).tiny)
    return cosine.clamp(max=1).acos()


def transfer_risk_bound(found: Tensor, samples: int) -> float:
    """Return the bound on the expected share of samples on which student and teacher disagree (their theorem 3).

    ``min over β of p(β) + p(π/2 - β)^n`` with ``p(θ) = P[angle ≥ θ]``, of the angles that were seen. From memory of the
    paper as far as constants go.

    Args:
        found: :func:`angles` of the data.
        samples: How many the student learns from, n.
    """
    ordered = found.sort().values
    betas = torch.cat([ordered, torch.linspace(0, math.pi / 2, 181, dtype=found.dtype, device=found.device)])

    def at_least(theta: Tensor) -> Tensor:
        return 1 - torch.searchsorted(ordered, theta).to(found) / len(ordered)

    return float((at_least(betas) + at_least(math.pi / 2 - betas) ** samples).min())


def disagreement(one: Tensor, other: Tensor, data: Tensor) -> float:
    """Return the share of samples that two linear classifiers put on different sides: for isotropic data angle / π."""
    return float(((data @ one).sign() != (data @ other).sign()).double().mean())

"""Vectors of length 1, and products of vectors."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_vectors(values: Tensor, dim: int = -1, epsilon: float = 1e-12) -> Tensor:
    """Divide by the Euclidean norm along ``dim``; a vector whose norm is at most ``epsilon`` becomes 0, without gradient."""
    norm = torch.linalg.vector_norm(values, dim=dim, keepdim=True)
    dead = norm <= epsilon  # NaN is not, and shows
    return torch.where(dead, torch.zeros_like(values), values / torch.where(dead, torch.ones_like(norm), norm))


def inner_products(left: Tensor, right: Tensor) -> Tensor:
    """Return the products of all rows of ``(..., m, C)`` with all of ``(..., n, C)``, ``(..., m, n)``, not autocast."""
    with torch.autocast(left.device.type, enabled=False):
        return left @ right.transpose(-1, -2)

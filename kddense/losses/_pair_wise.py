"""The sums over pairs of places of :func:`kddense.losses.pair_wise_similarity`, in little memory and time.

The matrix of affinities is built only where that is cheaper than products of channels: with features as rows,
``‖SSᵀ - TTᵀ‖² = ‖SᵀS‖² - 2‖SᵀT‖² + ‖TᵀT‖²``. Such a difference may cancel: it is computed in float64, and from S - T and
S + T where both have as many channels. The gradient is computed along with the value.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 4096  # nodes that are held in float64 at a time
BLOCK = 2**21  # affinities that are held in float64 at a time
CANCELLED = 1e-9  # below this share of its terms, a difference of squared sums has lost too many digits


def sum_over_all_pairs(student: Tensor, teacher: Tensor, detach_norm: bool) -> Tensor:
    """Sum of squared differences of the cosines of all pairs of nodes.

    Args:
        student: Features of the nodes, shape ``(N, C, nodes)``, float32 or float64.
        teacher: Shape ``(N, C', nodes)``, same dtype. No gradient flows into it.
        detach_norm: Whether the norms are constants to the gradient; they are then 1e-8 larger.

    Returns:
        One value per image, shape ``(N,)``.
    """
    return _AllPairs.apply(student, teacher, detach_norm)


def sum_over_near_pairs(student: Tensor, teacher: Tensor, near: Tensor, detach_norm: bool) -> Tensor:
    """The same sum over the pairs of each node and those near it: ``near`` holds their indices, shape ``(nodes, α)``."""
    return _NearPairs.apply(student, teacher, near, detach_norm)


class _AllPairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, detach_norm: bool) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(student) if wanted else None
        sums = [
            _all_pairs(own, other, detach_norm, None if gradient is None else gradient[image])
            for image, (own, other) in enumerate(zip(student, teacher, strict=True))
        ]
        ctx.save_for_backward(gradient)
        return torch.stack(sums).to(student.dtype) if sums else student.new_zeros(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[:, None, None], None, None


def _all_pairs(student: Tensor, teacher: Tensor, detach_norm: bool, gradient: Tensor | None) -> Tensor:
    """Return the sum for one image, ``(C, nodes)``, and write its gradient."""
    own, other, nodes = len(student), len(teacher), student.shape[1]
    if nodes * (own + other) < own**2 + own * other + other**2:
        return _by_rows(student, teacher, detach_norm, gradient)
    if own == other:
        return _by_difference(student, teacher, detach_norm, gradient)
    return _by_products(student, teacher, detach_norm, gradient)


def _by_difference(student: Tensor, teacher: Tensor, detach_norm: bool, gradient: Tensor | None) -> Tensor:
    """With D = S - T and P = S + T, ``SSᵀ - TTᵀ = (DPᵀ + PDᵀ) / 2``: nothing that is left has cancelled."""
    channels = len(student)
    dd, pp, pd = (student.new_zeros(channels, channels, dtype=torch.float64) for _ in range(3))
    for _, s, t, _ in _unit_chunks(student, teacher, detach_norm):
        d, p = s - t, s + t
        dd.addmm_(d, d.T)
        pp.addmm_(p, p.T)
        pd.addmm_(p, d.T)
    if gradient is not None:
        sp, sd = pp + pd.T, pd + dd  # twice S'P and S'D
        _write_gradient(gradient, student, teacher, detach_norm, lambda s, t: sp @ (s - t) + sd @ (s + t))
    return (dd.mul(pp).sum() + pd.mul(pd.T).sum()) / 2


def _by_products(student: Tensor, teacher: Tensor, detach_norm: bool, gradient: Tensor | None) -> Tensor:
    own, other = len(student), len(teacher)
    ss, st, tt = (student.new_zeros(*size, dtype=torch.float64) for size in ((own, own), (own, other), (other, other)))
    for _, s, t, _ in _unit_chunks(student, teacher, detach_norm):
        ss.addmm_(s, s.T)
        st.addmm_(s, t.T)
        tt.addmm_(t, t.T)
    terms = [product.square().sum() for product in (ss, st, tt)]
    total = terms[0] - 2 * terms[1] + terms[2]
    if total < CANCELLED * (terms[0] + terms[2]):
        return _by_rows(student, teacher, detach_norm, gradient)
    if gradient is not None:
        _write_gradient(gradient, student, teacher, detach_norm, lambda s, t: 4 * (ss @ s - st @ t))
    return total


def _by_rows(student: Tensor, teacher: Tensor, detach_norm: bool, gradient: Tensor | None) -> Tensor:
    """Build the affinities, some rows at a time."""
    (_, s, t, inverse) = next(_unit_chunks(student, teacher, detach_norm, chunk=student.shape[1]))
    rows = max(BLOCK // max(student.shape[1], 1), 1)
    total = s.new_zeros(())
    slopes = torch.empty_like(s) if gradient is not None else None
    for start in range(0, s.shape[1], rows):
        part = slice(start, start + rows)
        difference = s[:, part].T @ s - t[:, part].T @ t
        total += difference.square().sum()
        if slopes is not None:
            slopes[:, part] = 4 * (s @ difference.T)
    if gradient is not None and slopes is not None:
        gradient.copy_(_through_norm(slopes, s, inverse, detach_norm))
    return total


def _write_gradient(
    gradient: Tensor, student: Tensor, teacher: Tensor, detach_norm: bool, slope: Callable[[Tensor, Tensor], Tensor]
) -> None:
    for part, s, t, inverse in _unit_chunks(student, teacher, detach_norm):
        gradient[:, part] = _through_norm(slope(s, t), s, inverse, detach_norm).to(gradient.dtype)


def _unit_chunks(
    student: Tensor, teacher: Tensor, detach_norm: bool, chunk: int = CHUNK
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Yield chunks of nodes with features of length 1 in float64, and what the student's were multiplied with."""
    for start in range(0, student.shape[1], max(chunk, 1)):
        part = slice(start, start + chunk)
        (s, inverse), (t, _) = (_unit(side[:, part], 0, detach_norm) for side in (student, teacher))
        yield part, s, t, inverse


def _unit(features: Tensor, dim: int, detach_norm: bool) -> tuple[Tensor, Tensor]:
    features = features.double()
    norm = features.norm(dim=dim, keepdim=True)
    if detach_norm:
        inverse = 1 / (norm + 1e-8)
    else:
        inverse = torch.where(norm > 0, 1 / norm.clamp(min=torch.finfo(norm.dtype).tiny), 0)
    return features * inverse, inverse


def _through_norm(slope: Tensor, unit: Tensor, inverse: Tensor, detach_norm: bool, dim: int = 0) -> Tensor:
    """Turn the gradient of features of length 1 into that of the features before; 0 where a feature is 0."""
    if detach_norm:
        return slope * inverse
    return (slope - unit * (unit * slope).sum(dim, keepdim=True)) * inverse


class _NearPairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, nearest: Tensor, detach_norm: bool) -> Tensor:
        (s, inverse), (t, _) = (_unit(maps, 1, detach_norm) for maps in (student, teacher))
        slopes = torch.zeros_like(s) if ctx.needs_input_grad[0] else None
        total = s.new_zeros(len(s))
        for near in nearest.T:
            neighbour = s[:, :, near]
            difference = (s * neighbour).sum(1) - (t * t[:, :, near]).sum(1)
            total += difference.square().sum(1)
            if slopes is not None:
                step = 2 * difference[:, None]
                slopes.addcmul_(step, neighbour)
                slopes.index_add_(2, near, step * s)
        gradient = None if slopes is None else _through_norm(slopes, s, inverse, detach_norm, dim=1).to(student.dtype)
        ctx.save_for_backward(gradient)
        return total.to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[:, None, None], None, None, None


@functools.lru_cache(maxsize=8)
def nearest_nodes(height: int, width: int, connections: int) -> Tensor:
    """Return the nodes nearest each node of a map, itself first, shape ``(nodes, connections)``.

    By Chebyshev distance; of equally distant nodes the Euclidean distance decides, and then the order of the map.
    """
    reach = 0  # how far a corner has to look
    while min(reach + 1, height) * min(reach + 1, width) < connections:
        reach += 1
    steps = torch.arange(-reach, reach + 1)
    down, right = (offsets.flatten() for offsets in torch.meshgrid(steps, steps, indexing='ij'))
    chebyshev, euclidean = torch.maximum(down.abs(), right.abs()), down**2 + right**2
    order = torch.argsort(chebyshev * (4 * reach**2 + 1) + euclidean, stable=True)
    rows = torch.arange(height).repeat_interleave(width)[:, None] + down[order]
    columns = torch.arange(width).repeat(height)[:, None] + right[order]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    kept = inside & (inside.cumsum(1) <= connections)
    return (rows * width + columns)[kept].view(height * width, connections)

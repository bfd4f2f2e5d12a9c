"""Buckets of weights (Polino, Pascanu, Alistarh, Model Compression via Distillation and Quantization, ICLR 2018).

PyTorch's ``fake_quantize`` functions do not carry it: they round to the nearest step alone, and lose a bucket whose
weights are nearly equal, as their zero point grows with their mean.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ._checks import check_bits, check_bucket_size, check_floating
from .straight_through import straight_through, without_gradient

BUCKET_SIZE = 256  # of the authors' code


class Buckets(NamedTuple):
    """Weights brought to [0, 1], bucket by bucket.

    Attributes:
        scaled: Float32, ``(B, bucket_size)``: contiguous weights, the last bucket padded with the last weight.
        scale: ``(B, 1)``, greatest less least; 1 where that is 0.
        least: ``(B, 1)``.
    """

    scaled: Tensor
    scale: Tensor
    least: Tensor

    def restore(self, scaled: Tensor, like: Tensor) -> Tensor:
        """Return weights with the shape of ``like`` from what stands for ``scaled``."""
        flat = (scaled * self.scale + self.least).flatten()
        return flat[: like.numel()].view(like.shape)


@torch.no_grad()
def buckets_of(weight: Tensor, bucket_size: int | None = BUCKET_SIZE) -> Buckets:
    """Cut weights into buckets, and scale each to [0, 1].

    Args:
        weight: At least one, any floating dtype.
        bucket_size: Weights in a bucket; ``None`` for one bucket.

    Raises:
        ValueError: If ``bucket_size`` or the dtype do not fit.
    """
    check_bucket_size(bucket_size)
    check_floating(weight)
    flat = weight.detach().float().flatten()
    size = min(bucket_size or flat.numel(), flat.numel())
    rows = torch.cat([flat, flat[-1:].expand(-flat.numel() % size)]).view(-1, size)
    least, greatest = rows.aminmax(dim=1, keepdim=True)
    scale = torch.where(greatest > least, greatest - least, torch.ones_like(least))
    return Buckets((rows - least) / scale, scale, least)


def bucketed(weight: Tensor, bits: int, bucket_size: int | None = BUCKET_SIZE, numbers: Tensor | None = None) -> Tensor:
    """Round the weights of each bucket to ``2^bits`` even levels from its least weight to its greatest.

    With ``v̂ = (v - β) / α``, ``β = min v``, ``α = max v - min v``: ``α · round(v̂ · (2^bits - 1)) / (2^bits - 1) + β``. A
    bucket of equal weights stays as it is. The gradient passes straight through.

    Args:
        weight: Any floating dtype; computed in float32. It is flattened, and buckets are contiguous in it.
        bits: 1 to 8.
        bucket_size: Weights in a bucket, 256 by default; ``None`` for one bucket.
        numbers: Random ones from 0 to 1, as many as weights: each weight is rounded up if its number is less than its
            distance from the level below, so that it is right in the mean. Without them it is rounded to the nearest
            level, half to even.

    Returns:
        Same shape and dtype.

    Raises:
        ValueError: If ``bits``, ``bucket_size``, ``numbers`` or the dtype do not fit.

    Example:
        >>> import torch
        >>> bucketed(torch.tensor([-1.0, -0.2, 0.1, 0.9, 0.4]), bits=2)
        tensor([-1.0000, -0.3667, 0.2667, 0.9000, 0.2667])
    """
    check_bits(bits)
    check_bucket_size(bucket_size)
    check_floating(weight)
    if numbers is not None and numbers.numel() != weight.numel():
        raise ValueError(f'numbers must be as many as weights, {weight.numel()}, got {numbers.numel()}')
    if weight.numel() == 0:
        return weight
    buckets = buckets_of(weight, bucket_size)
    steps = 2**bits - 1
    levels = buckets.scaled * steps
    if numbers is None:
        levels = levels.round()
    else:
        drawn = F.pad(numbers.to(levels).flatten(), (0, levels.numel() - numbers.numel())).view_as(levels)
        below = levels.floor()
        levels = below + (drawn < levels - below)
    return straight_through(weight, buckets.restore(levels / steps, weight))


def nearest_points(weight: Tensor, points: Tensor, bucket_size: int | None = BUCKET_SIZE) -> Tensor:
    """Give each scaled weight the value of the nearest of some points, which learn (differentiable quantisation).

    ``Q(v) = α · p_{idx(v̂)} + β``, and ``∂L/∂p_j = Σ over i with idx_i = j of α_{bucket(i)} · ∂L/∂Q_i``. The weights learn
    nothing: their gradient is 0.

    Args:
        weight: Any floating dtype; computed in float32.
        points: ``(P,)`` in any order, at least one; near [0, 1]. Half-way between two, the lower one is taken.
        bucket_size: See :func:`bucketed`.

    Returns:
        Same shape and dtype as the weight.

    Raises:
        ValueError: If ``points``, ``bucket_size`` or the dtype do not fit.

    Example:
        >>> import torch
        >>> nearest_points(torch.tensor([-1.0, -0.2, 0.1, 0.9, 0.4]), torch.tensor([0.0, 0.5, 1.0]))
        tensor([-1.0000, -0.0500, -0.0500, 0.9000, -0.0500])
    """
    if points.ndim != 1 or points.numel() == 0:
        raise ValueError(f'points must be a row of at least one, got shape {tuple(points.shape)}')
    check_floating(weight)
    if weight.numel() == 0:
        check_bucket_size(bucket_size)
        return without_gradient(weight, weight.detach() + 0 * points.sum())
    buckets = buckets_of(weight, bucket_size)
    points = points.to(buckets.scaled).sort().values
    middles = (points[1:] + points[:-1]).detach() / 2
    chosen = points.index_select(0, _count_below(buckets.scaled.flatten(), middles)).view_as(buckets.scaled)
    return without_gradient(weight, buckets.restore(chosen, weight).to(weight.dtype))


def _count_below(scaled: Tensor, middles: Tensor) -> Tensor:
    """Return how many of the middles each number is above, as ``torch.bucketize``, which takes twice as long for few."""
    if len(middles) > 16:
        return torch.bucketize(scaled, middles)
    count = torch.zeros_like(scaled, dtype=torch.uint8)
    for middle in middles:
        count += scaled > middle
    return count.long()


@torch.no_grad()
def percentile_points(weight: Tensor, count: int, bucket_size: int | None = BUCKET_SIZE) -> Tensor:
    """Return where points begin to learn: at percentiles of the scaled weights.

    Args:
        weight: At least one.
        count: How many points, at least 1.
        bucket_size: See :func:`bucketed`.

    Returns:
        ``(count,)``, float32, in order: the least, the greatest, and evenly spaced percentiles between; of one point the
        least.
    """
    if count < 1:
        raise ValueError(f'count must be at least 1, got {count}')
    # torch.quantile refuses more than 16 million numbers.
    in_order = buckets_of(weight, bucket_size).scaled.flatten()[: weight.numel()].sort().values
    places = torch.linspace(0, in_order.numel() - 1, count, device=weight.device, dtype=torch.float64)
    below, above = in_order[places.floor().long()], in_order[places.ceil().long()]
    return torch.lerp(below, above, (places - places.floor()).to(below))


def bucketed_bits(count: int, bits: int, bucket_size: int | None = BUCKET_SIZE) -> int:
    """Return how many bits a layer takes: ``bits`` for each of its weights, two 32-bit numbers for each bucket.

    Example:
        >>> bucketed_bits(1024, 2)
        2304
    """
    return bits * count + 64 * -(-count // (bucket_size or max(count, 1)))

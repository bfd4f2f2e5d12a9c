"""What quantisers are given: bits, sizes of buckets, weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor

MOST_BITS = 8


def check_bits(bits: int, least: int = 1, where: str = '') -> None:
    """Raise ``ValueError`` unless a weight has a number of bits that ``where``, the form of quantisation, can have."""
    if not _is_whole(bits):
        raise ValueError(f'bits must be a whole number, got {bits!r}')
    if not least <= bits <= MOST_BITS:
        raise ValueError(f'bits must be {least} to {MOST_BITS}{f" for {where}" if where else ""}, got {bits}')


def check_bucket_size(bucket_size: int | None) -> None:
    """Raise ``ValueError`` unless a bucket holds at least one weight; ``None`` is one bucket for all."""
    if bucket_size is not None and (not _is_whole(bucket_size) or bucket_size < 1):
        raise ValueError(f'bucket_size must be at least 1, or None for one bucket a layer, got {bucket_size!r}')


def check_floating(weight: Tensor) -> None:
    """Raise ``ValueError`` unless a weight is a real floating-point tensor."""
    if not weight.is_floating_point():
        raise ValueError(f'weight must be floating, got {weight.dtype}')


def _is_whole(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)

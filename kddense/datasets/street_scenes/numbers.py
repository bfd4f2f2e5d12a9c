"""Random numbers that are the same on every machine.

numpy promises that the 64-bit words of PCG64 never change, which it does not promise for what its ``Generator`` makes of
them; and sines or exponentials differ in their last bit from one processor to the next. So everything here is built from
words by ``+ - * /``, which IEEE 754 defines to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar('T')


class Numbers:
    """A stream of random numbers.

    Args:
        entropy: Integers of at least 0 that tell this stream from others, such as seed, split and index.
    """

    def __init__(self, *entropy: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(entropy))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number of at least ``low`` and below ``high``."""
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) / 2**53)

    def integer(self, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``, both included."""
        return low + ((int(self._bits.random_raw()) >> 11) * (high - low + 1) >> 53)

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.uniform() < probability

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.integer(0, len(options) - 1)]

    def grain(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return noise in float64: mean 0, standard deviation 1, from a triangle, which a camera's is close enough to."""
        size = int(np.prod(shape))
        words = np.asarray(self._bits.random_raw((size + 1) // 2), dtype='<u8')  # two values a word, two draws a value
        pairs = words.view('<u2').reshape(-1, 2).astype(np.int64)
        return ((pairs[:size, 0] - pairs[:size, 1]) * (math.sqrt(6) / 65536)).reshape(shape)


def cells(x: np.ndarray, y: np.ndarray, salt: int) -> np.ndarray:
    """Return a number from 0 to 1 for each unit square of the plane, float64: the same for the same square.

    Args:
        x: Coordinates, of any shape.
        y: Coordinates that broadcast with ``x``.
        salt: Which of many such patterns.
    """
    columns, rows = (np.floor(np.clip(value, -1e6, 1e6)).astype(np.int64).astype(np.uint32) for value in (x, y))
    mixed = columns * np.uint32(374761393) + rows * np.uint32(668265263) + np.uint32(salt * 2246822519 % 2**32)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(1274126177)
    return ((mixed ^ (mixed >> np.uint32(16))) & np.uint32(0xFFFF)) / 65535.0


def clouds(x: np.ndarray, y: np.ndarray, salt: int, octaves: int = 3) -> np.ndarray:
    """Return smooth noise from 0 to 1 over the plane, float64, whose largest shapes are one unit wide."""
    total, weight = np.zeros(np.broadcast(x, y).shape), 0.0
    for octave in range(octaves):
        scale, share = 2.0**octave, 0.5**octave
        total += share * _smooth(x * scale, y * scale, salt + octave)
        weight += share
    return total / weight


def _smooth(x: np.ndarray, y: np.ndarray, salt: int) -> np.ndarray:
    across, down = x - np.floor(x), y - np.floor(y)
    across, down = across * across * (3 - 2 * across), down * down * (3 - 2 * down)
    upper = cells(x, y, salt) * (1 - across) + cells(x + 1, y, salt) * across
    lower = cells(x, y + 1, salt) * (1 - across) + cells(x + 1, y + 1, salt) * across
    return upper * (1 - down) + lower * down

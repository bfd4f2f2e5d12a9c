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

_DRAWN_AT_ONCE = 256
# Odd numbers by which columns, rows and patterns are told apart in words of 32 bits.
_COLUMN, _ROW, _SALT = (np.uint32(factor) for factor in (374761393, 668265263, 2246822519))


class Numbers:
    """A stream of random numbers.

    Args:
        entropy: Integers of at least 0 that tell this stream from others, such as seed, split and index.
    """

    def __init__(self, *entropy: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(entropy))
        self._drawn: list[float] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number of at least ``low`` and below ``high``."""
        if not self._drawn:
            words = np.asarray(self._bits.random_raw(_DRAWN_AT_ONCE))[::-1]  # the first one is taken from the end
            self._drawn = ((words >> np.uint64(11)) / 2.0**53).tolist()
        return low + (high - low) * self._drawn.pop()

    def integer(self, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``, both included."""
        return low + int(self.uniform(0, high - low + 1))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.uniform() < probability

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.integer(0, len(options) - 1)]

    def grain(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return noise in float32: mean 0, standard deviation 1, from a triangle, which a camera's is close enough to."""
        size = int(np.prod(shape))
        words = np.asarray(self._bits.random_raw((size + 3) // 4), dtype='<u8')  # two draws of a byte for each value
        draws = words.view(np.uint8).astype(np.int16)
        difference = draws[:size] - draws[size : 2 * size]
        return (difference.astype(np.float32) * (math.sqrt(6) / 256)).reshape(shape)


def cells(x: np.ndarray, y: np.ndarray, salt: float | np.ndarray) -> np.ndarray:
    """Return a number from 0 to 1 for each unit square of the plane, float32: the same for the same square.

    Args:
        x: Coordinates, within two thousand million of 0.
        y: Coordinates that broadcast with ``x``.
        salt: Which of many such patterns, a whole number; or one for each of the coordinates.
    """
    return _scattered(_steps(np.floor(x)) * _COLUMN + _steps(np.floor(y)) * _ROW + _steps(np.atleast_1d(salt)) * _SALT)


def clouds(x: np.ndarray, y: np.ndarray, salt: int, octaves: int = 3) -> np.ndarray:
    """Return smooth noise from 0 to 1 over the plane, float32, whose largest shapes are one unit wide."""
    total, weight = np.zeros(np.broadcast(x, y).shape, np.float32), 0.0
    for octave in range(octaves):
        scale, share = 2.0**octave, 0.5**octave
        total += share * _smooth(x * scale, y * scale, salt + octave)
        weight += share
    return total * (1 / weight)


def _smooth(x: np.ndarray, y: np.ndarray, salt: int) -> np.ndarray:
    left, top = np.floor(x), np.floor(y)
    across, down = x - left, y - top
    across, down = across * across * (3 - 2 * across), down * down * (3 - 2 * down)
    columns, rows = _steps(left) * _COLUMN, _steps(top) * _ROW + _steps(np.atleast_1d(salt)) * _SALT
    corner = columns + rows
    upper = _between(_scattered(corner), _scattered(corner + _COLUMN), across)
    lower = _between(_scattered(corner + _ROW), _scattered(corner + (_COLUMN + _ROW)), across)
    return _between(upper, lower, down)


def _between(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return first + (second - first) * share


def _steps(whole: np.ndarray) -> np.ndarray:
    """Return whole numbers as words of 32 bits."""
    return whole.astype(np.int32).view(np.uint32)


def _scattered(words: np.ndarray) -> np.ndarray:
    """Return numbers from 0 to 1, float32, that have nothing in common even for neighbouring words."""
    mixed = (words ^ (words >> np.uint32(13))) * np.uint32(1274126177)
    mixed ^= mixed >> np.uint32(16)
    mixed &= np.uint32(0xFFFF)
    return mixed.view(np.int32).astype(np.float32) / 65535

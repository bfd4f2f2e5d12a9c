"""Houses with rows of windows, some of them lit at dusk."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .labels import BUILDING
from .light import Colour, channels
from .numbers import Numbers, cells
from .things import Face, Spots, Thing, Value, block

WALLS: tuple[Colour, ...] = (
    (0.80, 0.74, 0.62), (0.70, 0.56, 0.44), (0.62, 0.36, 0.29), (0.74, 0.73, 0.71), (0.55, 0.56, 0.58),
    (0.84, 0.80, 0.74), (0.66, 0.62, 0.50), (0.50, 0.44, 0.42), (0.74, 0.62, 0.60), (0.58, 0.64, 0.66),
)  # fmt: skip
ROOFS: tuple[Colour, ...] = ((0.48, 0.24, 0.18), (0.30, 0.29, 0.30), (0.38, 0.27, 0.22))
PANE, SHOP, TRIM, LAMPLIGHT = (
    channels(colour) for colour in ((0.20, 0.25, 0.31), (0.22, 0.24, 0.26), (0.86, 0.85, 0.82), (0.92, 0.70, 0.36))
)
FLOOR, _BAY = 3.1, 3.6


class Facade(NamedTuple):
    """The face of a house: windows in a grid, shops or a base on the ground floor, a ledge under the roof.

    Attributes:
        tall: Height in metres.
        spacing: From window to window in metres.
        wide: Width of a window in metres.
        high: Height of a window in metres.
        has_shops: Whether the ground floor is of glass, 1 or 0.
        contrast: Contrast of the pattern, 0 to 1.
        salt: Seed of the pattern of lit windows and stains.
    """

    tall: Value
    spacing: Value
    wide: Value
    high: Value
    has_shops: Value
    contrast: Value
    salt: Value

    def colours(self, spots: Spots, colour: np.ndarray) -> np.ndarray:
        """Return the colours of a wall of this ``colour``."""
        along, up, footprint = spots
        stains = 0.22 * self.contrast * np.minimum(0.3 / footprint, 1.0) * (cells(along * 3, up * 3, self.salt) - 0.5)
        wall = colour * (1 + stains)
        reflection = 0.8 + 0.7 * cells(along / self.spacing, up / FLOOR, self.salt + 1)
        _blend(wall, PANE * reflection, self._windows(spots) * (0.35 + 0.65 * self.contrast))
        # A line of light plaster below each row of windows, and the ledge under the roof.
        sills = _band(up - np.floor(up / FLOOR) * FLOOR - 0.3, 0.12, footprint) * (up < self.tall - 1)
        ledge = _band(up - (self.tall - 0.25), 0.25, footprint)
        _blend(wall, TRIM * 0.88, np.maximum(0.5 * sills, ledge) * self.contrast)
        _blend(wall, SHOP, self._shops(spots))
        return wall

    def glow(self, spots: Spots) -> np.ndarray:
        """Return the light that lit windows emit."""
        lit = cells(spots.along / self.spacing, spots.up / FLOOR, self.salt + 2)
        windows = self._windows(spots) * (lit > 0.6) * (0.45 + 0.55 * lit)
        return LAMPLIGHT * (windows + 0.45 * self._shops(spots))

    def _windows(self, spots: Spots) -> np.ndarray:
        """Return how much of each spot lies in a window."""
        along, up, footprint = spots
        across = along - np.floor(along / self.spacing) * self.spacing - self.spacing / 2
        height = up - np.floor(up / FLOOR) * FLOOR - 1.75
        inside = _band(across, self.wide / 2, footprint) * _band(height, self.high / 2, footprint)
        return inside * (up > FLOOR * self.has_shops) * (up < self.tall - 0.6)

    def _shops(self, spots: Spots) -> np.ndarray:
        """Return how much of each spot lies in a shop's window."""
        along, up, footprint = spots
        across = along - np.floor(along / _BAY) * _BAY - _BAY / 2
        return _band(across, 1.5, footprint) * _band(up - 1.35, 1.15, footprint) * self.has_shops


def _band(distance: np.ndarray, half: Value, footprint: np.ndarray) -> np.ndarray:
    """Return how much of a pixel lies within ``half`` of a line, 0 to 1."""
    return np.clip((half - np.abs(distance)) / footprint + 0.5, 0.0, 1.0)


def _blend(below: np.ndarray, above: np.ndarray, amount: np.ndarray) -> None:
    """Lay a colour over others, which it changes."""
    below += (above - below) * amount


def house(
    numbers: Numbers, front: float, side: float, start: float, end: float, floors: tuple[int, int], contrast: float
) -> Thing:
    """Build a house beside the street.

    Args:
        numbers: Random numbers.
        front: How far from the street's centre line its face is, with its sign.
        side: -1 for the left of the street, 1 for the right.
        start: Where it begins along the street.
        end: Where it ends.
        floors: Least and greatest number of floors.
        contrast: Contrast of its pattern, 0 to 1.
    """
    count = numbers.integer(*floors)
    tall = count * FLOOR + 0.8
    colour = numbers.choice(WALLS)
    shade = numbers.uniform(0.8, 1.08)
    colour = (colour[0] * shade, colour[1] * shade, colour[2] * shade)
    facade = Facade(
        tall,
        numbers.uniform(2.2, 3.6),
        numbers.uniform(1.0, 1.7),
        numbers.uniform(1.3, 1.9),
        float(numbers.chance(0.45)),
        contrast,
        numbers.integer(0, 10_000),
    )
    deep = numbers.uniform(9.0, 14.0)
    left, right = sorted((front, front + side * deep))
    walls = block(left, right, 0.0, tall, start, end, colour)
    faces = [face._replace(texture=facade) for face in walls[:4]]
    if count <= 5 and numbers.chance(0.7):
        faces += _gable(left, right, tall, start, end, numbers.choice(ROOFS), colour)
        tall += 2.6
    else:
        faces.append(walls[4])
    outline = ((left, start), (right, start), (right, end), (left, end))
    return Thing(BUILDING, tuple(faces), height=tall, outline=outline, place=(front, max(start, 1.0)))


def _gable(left: float, right: float, low: float, start: float, end: float, roof: Colour, wall: Colour) -> list[Face]:
    """Return a roof whose ridge runs along the street."""
    ridge, top = (left + right) / 2, low + 2.8
    middle = (ridge, low + 0.5, (start + end) / 2)
    eaves_left, eaves_right = left - 0.3, right + 0.3
    slopes = [
        ((eaves_left, low, start), (eaves_left, low, end), (ridge, top, end), (ridge, top, start)),
        ((eaves_right, low, start), (eaves_right, low, end), (ridge, top, end), (ridge, top, start)),
    ]
    ends = [((left, low, z), (right, low, z), (ridge, top, z)) for z in (start, end)]
    return [Face(corners, roof, middle) for corners in slopes] + [Face(corners, wall, middle) for corners in ends]

"""Houses with rows of windows, some of them lit at dusk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .labels import BUILDING
from .light import Colour
from .numbers import Numbers, cells
from .things import Face, Thing, block

WALLS: tuple[Colour, ...] = (
    (0.80, 0.74, 0.62), (0.70, 0.56, 0.44), (0.62, 0.36, 0.29), (0.74, 0.73, 0.71), (0.55, 0.56, 0.58),
    (0.84, 0.80, 0.74), (0.66, 0.62, 0.50), (0.50, 0.44, 0.42), (0.74, 0.62, 0.60), (0.58, 0.64, 0.66),
)  # fmt: skip
ROOFS: tuple[Colour, ...] = ((0.48, 0.24, 0.18), (0.30, 0.29, 0.30), (0.38, 0.27, 0.22))
PANE, SHOP, TRIM = np.array((0.20, 0.25, 0.31)), np.array((0.22, 0.24, 0.26)), np.array((0.86, 0.85, 0.82))
LAMPLIGHT = np.array((0.92, 0.70, 0.36))
FLOOR = 3.1


@dataclass(frozen=True)
class Facade:
    """The face of a house: windows in a grid, shops or a base on the ground floor, a ledge under the roof.

    Attributes:
        tall: Height in metres.
        spacing: From window to window in metres.
        window: Width and height of a window in metres.
        has_shops: Whether the ground floor is of glass.
        contrast: How much of the pattern is seen, 0 to 1.
        salt: Which windows are lit, and which stains are on the wall.
    """

    tall: float
    spacing: float
    window: tuple[float, float]
    has_shops: bool
    contrast: float
    salt: int

    def __call__(self, along: np.ndarray, up: np.ndarray, footprint: np.ndarray, colour: np.ndarray) -> np.ndarray:
        """Return the colours, ``(N, 3)``, of a wall of this ``colour``."""
        stains = 0.22 * self.contrast * np.minimum(0.3 / footprint, 1.0) * (cells(along * 3, up * 3, self.salt) - 0.5)
        wall = colour * (1 + stains)[:, None]
        glass = self._windows(along, up, footprint)
        reflection = 0.8 + 0.7 * cells(along / self.spacing, up / FLOOR, self.salt + 1)
        wall = _blend(wall, PANE * reflection[:, None], glass * (0.35 + 0.65 * self.contrast))
        # A line of light plaster below each row of windows, and the ledge under the roof.
        sills = _band(up - np.floor(up / FLOOR) * FLOOR - 0.3, 0.12, footprint) * (up < self.tall - 1)
        ledge = _band(up - (self.tall - 0.25), 0.25, footprint)
        wall = _blend(wall, TRIM * 0.88, np.maximum(0.5 * sills, ledge) * self.contrast)
        if self.has_shops:
            wall = _blend(wall, SHOP, self._shops(along, up, footprint))
        return wall

    def glow(self, along: np.ndarray, up: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Return what the lit windows shine, ``(N, 3)``."""
        lit = cells(along / self.spacing, up / FLOOR, self.salt + 2)
        windows = self._windows(along, up, footprint) * (lit > 0.6) * (0.45 + 0.55 * lit)
        if self.has_shops:
            windows = windows + 0.45 * self._shops(along, up, footprint)
        return LAMPLIGHT * windows[:, None]

    def _windows(self, along: np.ndarray, up: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        wide, tall = self.window
        across = along - np.floor(along / self.spacing) * self.spacing - self.spacing / 2
        height = up - np.floor(up / FLOOR) * FLOOR - 1.75
        inside = _band(across, wide / 2, footprint) * _band(height, tall / 2, footprint)
        above_ground = up > FLOOR if self.has_shops else up > 0
        return inside * above_ground * (up < self.tall - 0.6)

    def _shops(self, along: np.ndarray, up: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        bay = 3.6
        across = along - np.floor(along / bay) * bay - bay / 2
        return _band(across, 1.5, footprint) * _band(up - 1.35, 1.15, footprint)


def _band(distance: np.ndarray, half: float, footprint: np.ndarray) -> np.ndarray:
    """Return how much of a pixel lies within ``half`` of a line, 0 to 1."""
    return np.clip((half - np.abs(distance)) / footprint + 0.5, 0.0, 1.0)


def _blend(below: np.ndarray, above: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return below + (above - below) * amount[:, None]


def house(
    numbers: Numbers, front: float, side: float, start: float, end: float, floors: tuple[int, int], contrast: float
) -> Thing:
    """Build a house beside the street.

    Args:
        numbers: Where chance comes from.
        front: How far from the street's centre line its face is, with its sign.
        side: -1 for the left of the street, 1 for the right.
        start: Where it begins along the street.
        end: Where it ends.
        floors: Least and greatest number of floors.
        contrast: How much of its pattern is seen, 0 to 1.
    """
    count = numbers.integer(*floors)
    tall = count * FLOOR + 0.8
    colour = numbers.choice(WALLS)
    shade = numbers.uniform(0.8, 1.08)
    colour = (colour[0] * shade, colour[1] * shade, colour[2] * shade)
    facade = Facade(
        tall,
        numbers.uniform(2.2, 3.6),
        (numbers.uniform(1.0, 1.7), numbers.uniform(1.3, 1.9)),
        numbers.chance(0.45),
        contrast,
        numbers.integer(0, 10_000),
    )
    deep = numbers.uniform(9.0, 14.0)
    left, right = sorted((front, front + side * deep))
    walls = block(left, right, 0.0, tall, start, end, colour)
    faces = [Face(face.corners, colour, face.behind, facade, facade.glow) for face in walls[:4]]
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

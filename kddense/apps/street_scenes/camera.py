"""The camera: from places of the street to positions in the picture.

The street has metres: ``across`` to the right from its centre line, ``up`` from the ground, ``along`` ahead from the
camera. The camera sees ``right``, ``down`` and ``depth`` along its optical axis, which is level: verticals stay vertical.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

Point = tuple[float, float, float]
Metres = TypeVar('Metres', float, np.ndarray)

NEAREST = 0.4  # metres; what is closer to the lens is cut off


@dataclass(frozen=True)
class Camera:
    """A pinhole camera above the ground.

    Attributes:
        width: Pixels of the picture.
        height: Pixels of the picture.
        focal: Focal length in pixels.
        horizon: Where the horizon lies, in rows from the top.
        elevation: Height above the ground in metres.
        offset: How far to the right of the street's centre line, in metres.
        turn: Cosine and sine of the angle by which it looks to the left of the street's direction.
    """

    width: int
    height: int
    focal: float
    horizon: float
    elevation: float
    offset: float
    turn: tuple[float, float]

    @cached_property
    def across(self) -> np.ndarray:
        """How far to the right the middle of each column's pixels looks, for each metre of depth."""
        return (np.arange(self.width) + 0.5 - self.width / 2) / self.focal

    @cached_property
    def down(self) -> np.ndarray:
        """How far down the middle of each row's pixels looks, for each metre of depth."""
        return (np.arange(self.height) + 0.5 - self.horizon) / self.focal

    def see(self, across: Metres, up: Metres, along: Metres) -> tuple[Metres, Metres, Metres]:
        """Return the camera's view, ``(right, down, depth)``, of places of the street."""
        cosine, sine = self.turn
        aside = across - self.offset
        return aside * cosine + along * sine, self.elevation - up, along * cosine - aside * sine

    def turned(self, direction: Point) -> Point:
        """Return the camera's view of a direction."""
        across, up, along = direction
        cosine, sine = self.turn
        return across * cosine + along * sine, -up, along * cosine - across * sine

    def depth(self, across: float, along: float) -> float:
        """Return how far ahead of the camera a place of the street is, in metres."""
        return self.see(across, 0.0, along)[2]

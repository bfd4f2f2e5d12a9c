"""Where the camera stands, and what of the street it sees where in the picture.

The street has metres: ``across`` to the right from its centre line, ``up`` from the ground, ``along`` ahead from the
camera. The camera sees ``right``, ``down`` and ``depth`` along its optical axis, which is level: verticals stay vertical.
"""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float, float]

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

    def see(self, point: Point) -> Point:
        """Return the camera's view, ``(right, down, depth)``, of a point of the street."""
        across, up, along = point
        cosine, sine = self.turn
        across -= self.offset
        return across * cosine + along * sine, self.elevation - up, along * cosine - across * sine

    def turned(self, direction: Point) -> Point:
        """Return the same for a direction."""
        across, up, along = direction
        cosine, sine = self.turn
        return across * cosine + along * sine, -up, along * cosine - across * sine

    def depth(self, across: float, along: float) -> float:
        """Return how far ahead of the camera a place of the street is, in metres."""
        return self.see((across, 0.0, along))[2]


def clip(corners: list[Point]) -> list[Point]:
    """Cut off what of a convex polygon, given as the camera sees it, is nearer than :data:`NEAREST`."""
    if all(corner[2] >= NEAREST for corner in corners):
        return corners
    kept: list[Point] = []
    for corner, following in zip(corners, corners[1:] + corners[:1], strict=True):
        if corner[2] >= NEAREST:
            kept.append(corner)
        if (corner[2] >= NEAREST) != (following[2] >= NEAREST):
            share = (NEAREST - corner[2]) / (following[2] - corner[2])
            right, down = (corner[axis] + share * (following[axis] - corner[axis]) for axis in (0, 1))
            kept.append((right, down, NEAREST))
    return kept

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

    @property
    def view(self) -> View:
        """The street as the camera sees it."""
        return View(self.offset, self.elevation, 0.0, self.turn)

    def depth(self, across: float, along: float) -> float:
        """Return how far ahead of the camera a place of the street is, in metres."""
        return self.view.see((across, 0.0, along))[2]


@dataclass(frozen=True)
class View:
    """Where the camera is in some coordinates, the street's or a thing's own.

    Attributes:
        across: Its place.
        up: Its height above the ground.
        along: Its place.
        turn: Cosine and sine of the angle by which it looks to the left.
    """

    across: float
    up: float
    along: float
    turn: tuple[float, float]

    def see(self, point: Point) -> Point:
        """Return the camera's view, ``(right, down, depth)``, of a point."""
        cosine, sine = self.turn
        across, along = point[0] - self.across, point[2] - self.along
        return across * cosine + along * sine, self.up - point[1], along * cosine - across * sine

    def turned(self, direction: Point) -> Point:
        """Return the same for a direction."""
        across, up, along = direction
        cosine, sine = self.turn
        return across * cosine + along * sine, -up, along * cosine - across * sine

    def within(self, origin: tuple[float, float], forward: tuple[float, float]) -> View:
        """Return the same camera in the coordinates of something that stands there and looks there."""
        (x, z), (cosine, sine) = forward, self.turn
        across, along = self.across - origin[0], self.along - origin[1]
        turn = cosine * z - sine * x, sine * z + cosine * x
        return View(across * z - along * x, self.up, across * x + along * z, turn)


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

"""What scenes are made of: flat faces and round blobs, put together to things with a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from .camera import Point
from .light import Colour, dot

Value = float | np.ndarray
BLACK: Colour = (0.0, 0.0, 0.0)
_HALF_ROOT_3 = math.sqrt(3) / 2
# Twelve corners of a circle; from square roots, which are exact everywhere, as cosines are not.
CIRCLE = tuple(
    (x * sign_x, y * sign_y)
    for quarter, (sign_x, sign_y) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1)))
    for x, y in (
        ((1.0, 0.0), (_HALF_ROOT_3, 0.5), (0.5, _HALF_ROOT_3))
        if quarter % 2 == 0
        else ((0.0, 1.0), (0.5, _HALF_ROOT_3), (_HALF_ROOT_3, 0.5))
    )
)


class Spots(NamedTuple):
    """Places on faces that pixels show; all float32.

    Attributes:
        along: Metres from the face's first corner along its first edge.
        up: Metres above the ground.
        footprint: How many metres a pixel covers.
    """

    along: np.ndarray
    up: np.ndarray
    footprint: np.ndarray


class Texture(Protocol):
    """What gives the pixels of a face colours of their own; a named tuple of numbers.

    Those of one class are painted all at once: by a texture that has, in place of numbers, arrays of one for each pixel.
    """

    def colours(self, spots: Spots, colour: np.ndarray) -> np.ndarray:
        """Return colours, ``(3, N)``, of a face of a ``colour``, ``(3, 1)`` or ``(3, N)``."""

    def glow(self, spots: Spots) -> np.ndarray:
        """Return the light that it emits at dusk, likewise."""


class Face(NamedTuple):
    """A flat convex polygon.

    Attributes:
        corners: At least three, in one plane.
        colour: Its colour, red, green, blue, 0 to 1.
        behind: A point inside the solid that it is a side of; None for a board that is seen from both sides.
        shine: Light that it emits at dusk.
        texture: Gives its pixels colours of their own.
        is_detail: Not worth drawing from afar.
    """

    corners: tuple[Point, ...]
    colour: Colour
    behind: Point | None = None
    shine: Colour = BLACK
    texture: Texture | None = None
    is_detail: bool = False


class Blob(NamedTuple):
    """A ball of leaves.

    Attributes:
        centre: Its middle, in metres.
        radius: In metres.
        colour: Its colour, red, green, blue, 0 to 1.
        raggedness: How much of its rim is eaten away, 0 to 1.
        leaves: How many leaves fit into its radius.
        speckle: How much the leaves differ in brightness.
        salt: Seed of the pattern of leaves.
    """

    centre: Point
    radius: float
    colour: Colour
    raggedness: float = 0.5
    leaves: float = 6.0
    speckle: float = 0.5
    salt: int = 0


class Thing(NamedTuple):
    """Something with a class.

    Attributes:
        label: Its label id.
        faces: Its polygons, around the origin and looking along until it is put somewhere.
        blobs: Its balls, likewise.
        height: In metres.
        outline: Corners ``(across, along)`` of the ground it stands on, convex, each a turn to the left.
        place: The middle of that ground.
        origin: Where the origin of its faces and blobs lies on the street.
        forward: The direction of its front.
    """

    label: int
    faces: tuple[Face, ...] = ()
    blobs: tuple[Blob, ...] = ()
    height: float = 1.0
    outline: tuple[tuple[float, float], ...] = ()
    place: tuple[float, float] = (0.0, 0.0)
    origin: tuple[float, float] = (0.0, 0.0)
    forward: tuple[float, float] = (0.0, 1.0)

    def at(self, across: float, along: float, forward: tuple[float, float] = (0.0, 1.0)) -> Thing:
        """Put a thing that was made around the origin, looking along, onto the street.

        Args:
            across: Where its origin goes.
            along: Where its origin goes.
            forward: The direction of its front, ``(across, along)``, a vector of length 1.
        """
        x, z = forward

        def on_street(place: tuple[float, float]) -> tuple[float, float]:
            right, ahead = place
            return across + right * z + ahead * x, along - right * x + ahead * z

        outline, place = tuple(map(on_street, self.outline)), on_street(self.place)
        return self._replace(outline=outline, place=place, origin=(across, along), forward=forward)


def rectangle(width: float, length: float) -> tuple[tuple[float, float], ...]:
    """Return the outline of a thing that is ``width`` wide and ``length`` long, around the origin."""
    x, z = width / 2, length / 2
    return (-x, -z), (x, -z), (x, z), (-x, z)


def prism(profile: Sequence[tuple[float, float]], width: float, colours: Sequence[Colour], middle: Point) -> list[Face]:
    """Return the sides of a solid that looks the same from its left all through to its right.

    Args:
        profile: Corners ``(ahead, up)`` of its convex side view.
        width: From left to right.
        colours: Of the two sides, and of the face along each edge of the profile; the last one goes on for the rest.
        middle: A point inside.
    """
    half = width / 2
    sides = [
        Face(tuple((x, up, ahead) for ahead, up in profile), colours[0], middle) for x in (-half, half)
    ]  # fmt: skip
    for index, (ahead, up) in enumerate(profile):
        next_ahead, next_up = profile[(index + 1) % len(profile)]
        corners = ((-half, up, ahead), (half, up, ahead), (half, next_up, next_ahead), (-half, next_up, next_ahead))
        sides.append(Face(corners, colours[min(index + 1, len(colours) - 1)], middle))
    return sides


def block(
    left: float, right: float, bottom: float, top: float, back: float, front: float, colour: Colour
) -> list[Face]:
    """Return the sides of a box in street or local coordinates, without its bottom; first edges run level."""
    middle = ((left + right) / 2, (bottom + top) / 2, (back + front) / 2)

    def face(*corners: Point) -> Face:
        return Face(corners, colour, middle)

    return [
        face((left, bottom, back), (right, bottom, back), (right, top, back), (left, top, back)),
        face((left, bottom, front), (right, bottom, front), (right, top, front), (left, top, front)),
        face((left, bottom, back), (left, bottom, front), (left, top, front), (left, top, back)),
        face((right, bottom, back), (right, bottom, front), (right, top, front), (right, top, back)),
        face((left, top, back), (right, top, back), (right, top, front), (left, top, front)),
    ]


def pane(
    corners: Sequence[Point], colour: Colour, middle: Point, shine: Colour = BLACK, is_detail: bool = False
) -> Face:
    """Return a face that lies a finger's breadth before the side of a solid: a window, a lamp, a plate."""
    across, up, along = normal_of(corners)
    first = corners[0]
    towards = (first[0] - middle[0], first[1] - middle[1], first[2] - middle[2])
    step = 0.015 / math.sqrt(dot((across, up, along), (across, up, along)))
    step = step if dot((across, up, along), towards) > 0 else -step
    lifted = tuple((x + across * step, y + up * step, z + along * step) for x, y, z in corners)
    return Face(lifted, colour, middle, shine, is_detail=is_detail)


def normal_of(corners: Sequence[Point]) -> Point:
    """Return a normal, of any length, of a polygon whose first three corners are not in line."""
    (x, y, z), (next_x, next_y, next_z), (last_x, last_y, last_z) = corners[:3]
    a, b, c = next_x - x, next_y - y, next_z - z
    d, e, f = last_x - x, last_y - y, last_z - z
    return b * f - c * e, c * d - a * f, a * e - b * d


def disc(centre: Point, radius: float, colour: Colour, axis: str = 'ahead', **options: object) -> Face:
    """Return a round board.

    Args:
        centre: Its middle, in metres.
        radius: In metres.
        colour: Its colour, red, green, blue, 0 to 1.
        axis: What it looks along: ``'ahead'``, or ``'right'`` as a wheel's side does.
        options: Further arguments of :class:`Face`.
    """
    x, y, z = centre
    if axis == 'ahead':
        corners = tuple([(x + radius * cosine, y + radius * sine, z) for cosine, sine in CIRCLE])
    else:
        corners = tuple([(x, y + radius * sine, z + radius * cosine) for cosine, sine in CIRCLE])
    return Face(corners, colour, **options)  # type: ignore[arg-type]


def board(left: float, right: float, bottom: float, top: float, colour: Colour, ahead: float = 0.0) -> Face:
    """Return an upright rectangle that is seen from both sides."""
    return Face(((left, bottom, ahead), (right, bottom, ahead), (right, top, ahead), (left, top, ahead)), colour)

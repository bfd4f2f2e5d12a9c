"""What stands beside the road: poles, signs, lights, trees, hedges, fences and walls."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .labels import FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, WALL
from .light import Colour, channels
from .numbers import Numbers, cells
from .things import BLACK, Blob, Face, Spots, Texture, Thing, Value, block, board, disc, rectangle

STEEL = (0.36, 0.38, 0.39)
WHITE, RED, BLUE, YELLOW = (0.92, 0.92, 0.90), (0.76, 0.08, 0.10), (0.10, 0.25, 0.62), (0.88, 0.72, 0.10)
GREENS: tuple[Colour, ...] = ((0.20, 0.34, 0.13), (0.28, 0.40, 0.15), (0.15, 0.28, 0.14), (0.38, 0.42, 0.16))
AUTUMN: tuple[Colour, ...] = ((0.52, 0.36, 0.12), (0.55, 0.26, 0.11))


class Clippings(NamedTuple):
    """The leaves of a hedge.

    Attributes:
        salt: Seed of the pattern of leaves.
    """

    salt: Value

    def colours(self, spots: Spots, colour: np.ndarray) -> np.ndarray:
        """Return the colours of leaves of a mean ``colour``."""
        strength = 0.7 * np.minimum(0.08 / spots.footprint, 1.0)
        return colour * (1 + strength * (cells(spots.along * 9, spots.up * 9, self.salt) - 0.5))

    def glow(self, spots: Spots) -> np.ndarray:
        """Return black: it emits no light."""
        return channels(BLACK)


class Bricks(NamedTuple):
    """The bricks of a wall.

    Attributes:
        salt: Seed of the pattern of bricks.
    """

    salt: Value

    def colours(self, spots: Spots, colour: np.ndarray) -> np.ndarray:
        """Return the colours of bricks of a mean ``colour``."""
        row = np.floor(spots.up / 0.22)
        strength = 0.35 * np.minimum(0.1 / spots.footprint, 1.0)
        return colour * (1 + strength * (cells(spots.along / 0.5 + 0.5 * row, row, self.salt) - 0.5))

    def glow(self, spots: Spots) -> np.ndarray:
        """Return black: it emits no light."""
        return channels(BLACK)


def _post(height: float, thick: float = 0.14) -> tuple[Face, Face]:
    half = thick / 2
    across = board(-half, half, 0.0, height, STEEL)
    along = Face(((0.0, 0.0, -half), (0.0, 0.0, half), (0.0, height, half), (0.0, height, -half)), STEEL)
    return across, along


def lamp_post(numbers: Numbers, towards_road: float) -> list[Thing]:
    """A street lamp; ``towards_road`` is -1 or 1, the side to which its arm reaches."""
    tall, reach = numbers.uniform(6.5, 8.5), 1.6 * towards_road
    arm = board(min(0.0, reach), max(0.0, reach), tall - 0.1, tall, STEEL)
    left, right = sorted((reach * 0.7, reach * 1.1))
    head = Face(
        (
            (left, tall - 0.18, -0.12),
            (right, tall - 0.18, -0.12),
            (right, tall - 0.04, -0.12),
            (left, tall - 0.04, -0.12),
        ),
        (0.75, 0.75, 0.70),
        shine=(1.0, 0.88, 0.60),
    )
    return [Thing(POLE, (*_post(tall), arm, head), height=tall, outline=rectangle(0.15, 0.15))]


def traffic_light(numbers: Numbers) -> list[Thing]:
    """A pole with one traffic light that looks at the camera."""
    lit = numbers.integer(0, 2)
    housing = block(-0.17, 0.17, 2.45, 3.35, -0.35, -0.15, (0.07, 0.08, 0.08))
    lamps = []
    for index, colour in enumerate(((0.20, 0.95, 0.50), (1.0, 0.72, 0.10), (1.0, 0.12, 0.10))):
        shown = colour if index == lit else (colour[0] * 0.22, colour[1] * 0.22, colour[2] * 0.22)
        shine = (colour[0] * 0.7, colour[1] * 0.7, colour[2] * 0.7) if index == lit else BLACK
        lamps.append(disc((0.0, 2.61 + 0.29 * index, -0.37), 0.125, shown, shine=shine))
    light = Thing(TRAFFIC_LIGHT, (*housing, *lamps), height=3.4, outline=rectangle(0.3, 0.3))
    return [Thing(POLE, _post(3.3), height=3.3, outline=rectangle(0.15, 0.15)), light]


def traffic_sign(numbers: Numbers) -> list[Thing]:
    """A pole with one sign that looks at the camera."""
    top = numbers.uniform(2.3, 2.9)
    shape = numbers.choice(('limit', 'parking', 'warning', 'stop', 'direction', 'priority'))
    ahead, front = -0.1, -0.115
    if shape == 'limit':
        faces = [disc((0.0, top, ahead), 0.36, RED), disc((0.0, top, front), 0.27, WHITE)]
        faces.append(board(-0.14, 0.14, top - 0.09, top + 0.09, (0.2, 0.2, 0.2), front - 0.015))
    elif shape == 'parking':
        faces = [board(-0.33, 0.33, top - 0.33, top + 0.33, BLUE, ahead)]
        faces.append(board(-0.13, -0.05, top - 0.2, top + 0.2, WHITE, front))
        faces.append(board(-0.05, 0.12, top, top + 0.2, WHITE, front))
    elif shape == 'warning':
        faces = [_triangle(0.46, top, RED, ahead), _triangle(0.28, top, WHITE, front)]
    elif shape == 'stop':
        faces = [disc((0.0, top, ahead), 0.38, RED)]
        faces.append(board(-0.24, 0.24, top - 0.07, top + 0.07, WHITE, front))
    elif shape == 'priority':
        faces = [_diamond(0.42, top, WHITE, ahead), _diamond(0.30, top, YELLOW, front)]
    else:
        faces = [board(-0.7, 0.7, top - 0.25, top + 0.2, YELLOW, ahead)]
        faces.append(board(-0.55, 0.45, top - 0.09, top + 0.05, (0.15, 0.15, 0.12), front))
    sign = Thing(TRAFFIC_SIGN, tuple(faces), height=top + 0.4, outline=rectangle(0.3, 0.1))
    return [Thing(POLE, _post(top + 0.1, 0.09), height=top, outline=rectangle(0.1, 0.1)), sign]


def _triangle(size: float, middle: float, colour: Colour, ahead: float) -> Face:
    low, high = middle - 0.58 * size, middle + 0.85 * size
    return Face(((-size, low, ahead), (size, low, ahead), (0.0, high, ahead)), colour)


def _diamond(size: float, middle: float, colour: Colour, ahead: float) -> Face:
    corners = ((0.0, middle - size, ahead), (size, middle, ahead), (0.0, middle + size, ahead), (-size, middle, ahead))
    return Face(corners, colour)


def tree(numbers: Numbers, season: Colour) -> list[Thing]:
    """A tree with a crown of a few balls of leaves."""
    trunk, crown = numbers.uniform(1.7, 2.6), numbers.uniform(1.2, 2.1)
    bark = (0.27, 0.21, 0.16)
    wide = numbers.uniform(0.16, 0.28)
    blobs = [_leaves(numbers, (0.0, trunk + crown * 0.9, 0.0), crown, season)]
    for _ in range(numbers.integer(3, 5)):
        centre = (
            numbers.uniform(-0.75, 0.75) * crown,
            trunk + crown * numbers.uniform(0.5, 1.9),
            numbers.uniform(-0.6, 0.6) * crown,
        )
        blobs.append(_leaves(numbers, centre, crown * numbers.uniform(0.5, 0.8), season))
    stem = block(-wide / 2, wide / 2, 0.0, trunk + crown * 0.5, -wide / 2, wide / 2, bark)
    outline = rectangle(crown, crown)
    return [Thing(VEGETATION, tuple(stem), tuple(blobs), trunk + 2.3 * crown, outline)]


def bush(numbers: Numbers, season: Colour) -> list[Thing]:
    """A low bush."""
    radius = numbers.uniform(0.45, 0.9)
    blobs = [
        _leaves(numbers, (numbers.uniform(-0.6, 0.6), radius * 0.7, numbers.uniform(-0.6, 0.6)), radius, season)
        for _ in range(numbers.integer(2, 3))
    ]
    outline = rectangle(1.2 * radius, 1.2 * radius)
    return [Thing(VEGETATION, (), tuple(blobs), 1.6 * radius, outline)]


def _leaves(numbers: Numbers, centre: tuple[float, float, float], radius: float, season: Colour) -> Blob:
    shade = numbers.uniform(0.85, 1.2)
    colour = (season[0] * shade, season[1] * shade, season[2] * shade)
    salt = numbers.integer(0, 10_000)
    return Blob(
        centre, radius, colour, numbers.uniform(0.5, 0.9), numbers.uniform(5, 9), numbers.uniform(0.4, 0.8), salt
    )


def hedge(numbers: Numbers, across: float, start: float, end: float, season: Colour) -> list[Thing]:
    """A clipped hedge along the street."""
    tall, salt = numbers.uniform(0.9, 1.6), numbers.integer(0, 10_000)
    return [_strip(VEGETATION, across, start, end, tall, 0.7, season, Clippings(salt))]


def wall(numbers: Numbers, across: float, start: float, end: float) -> list[Thing]:
    """A wall of stone or brick along the street."""
    tall, salt = numbers.uniform(1.3, 2.4), numbers.integer(0, 10_000)
    colour = numbers.choice(((0.62, 0.58, 0.52), (0.52, 0.34, 0.28), (0.66, 0.66, 0.64)))
    return [_strip(WALL, across, start, end, tall, 0.3, colour, Bricks(salt))]


def fence(numbers: Numbers, across: float, start: float, end: float) -> list[Thing]:
    """Planks between posts, or a guard rail, along the street; one sees through between its parts."""
    rail = numbers.chance(0.5)
    colour = (
        (0.62, 0.64, 0.65) if rail else numbers.choice(((0.45, 0.34, 0.24), (0.74, 0.72, 0.68), (0.30, 0.36, 0.30)))
    )
    faces = []
    for low, high in ((0.45, 0.78),) if rail else ((0.25, 0.4), (0.55, 0.72), (0.88, 1.06)):
        corners = ((across, low, start), (across, low, end), (across, high, end), (across, high, start))
        faces.append(Face(corners, colour))
    count = max(2, int((end - start) / 2.2))
    for index in range(count + 1):
        place = start + (end - start) * index / count
        faces.append(board(across - 0.06, across + 0.06, 0.0, 0.85 if rail else 1.15, colour, place))
    tall = 0.85 if rail else 1.15
    outline = ((across - 0.05, start), (across + 0.05, start), (across + 0.05, end), (across - 0.05, end))
    return [Thing(FENCE, tuple(faces), height=tall, outline=outline, place=(across, max(start, 1.0)))]


def _strip(
    label: int, across: float, start: float, end: float, tall: float, thick: float, colour: Colour, texture: Texture
) -> Thing:
    left, right = across - thick / 2, across + thick / 2
    faces = block(left, right, 0.0, tall, start, end, colour)
    textured = tuple(face._replace(texture=texture) for face in faces)
    outline = ((left, start), (right, start), (right, end), (left, end))
    return Thing(label, textured, height=tall, outline=outline, place=(across, max(start, 1.0)))

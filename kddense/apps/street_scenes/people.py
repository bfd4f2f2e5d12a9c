"""People on foot and on two wheels: flat figures that turn towards the camera, around the origin."""

from __future__ import annotations

from .labels import PERSON, RIDER
from .light import Colour
from .numbers import Numbers
from .things import Face, Thing, board, disc, rectangle

SKINS: tuple[Colour, ...] = ((0.86, 0.66, 0.54), (0.72, 0.52, 0.40), (0.52, 0.35, 0.26), (0.36, 0.24, 0.18))
HAIRS: tuple[Colour, ...] = ((0.10, 0.08, 0.07), (0.30, 0.20, 0.12), (0.55, 0.42, 0.24), (0.60, 0.60, 0.60))
TOPS: tuple[Colour, ...] = (
    (0.70, 0.16, 0.16), (0.15, 0.30, 0.60), (0.20, 0.42, 0.25), (0.80, 0.66, 0.20), (0.20, 0.20, 0.24),
    (0.62, 0.60, 0.56), (0.46, 0.22, 0.46), (0.80, 0.45, 0.25), (0.25, 0.50, 0.56),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = ((0.13, 0.15, 0.22), (0.20, 0.24, 0.34), (0.30, 0.28, 0.25), (0.45, 0.40, 0.32))
SHOES: Colour = (0.10, 0.09, 0.09)


def person(numbers: Numbers, difficulty: float) -> Thing:
    """Someone who stands or walks; a child now and then."""
    tall = numbers.uniform(1.0, 1.3) if numbers.chance(0.12) else numbers.uniform(1.58, 1.9)
    stride = numbers.uniform(0.0, 0.2) * tall
    top, trousers, skin = _clothes(numbers.choice(TOPS), difficulty), numbers.choice(TROUSERS), numbers.choice(SKINS)
    faces = [
        _limb(-0.05 * tall, 0.48 * tall, -0.06 * tall - stride, 0.03, 0.085 * tall, trousers),
        _limb(0.05 * tall, 0.48 * tall, 0.06 * tall + stride * 0.8, 0.03, 0.085 * tall, trousers, ahead=0.01),
        board(-0.09 * tall - stride, -stride - 0.005 * tall, 0.0, 0.045, SHOES, -0.02),
        board(stride * 0.8 + 0.005 * tall, stride * 0.8 + 0.10 * tall, 0.0, 0.045, SHOES, -0.02),
        _trunk(0.115 * tall, 0.085 * tall, 0.45 * tall, 0.82 * tall, top, -0.03),
        _limb(-0.125 * tall, 0.80 * tall, -0.13 * tall + stride * 0.5, 0.44 * tall, 0.055 * tall, top, -0.05),
        _limb(0.125 * tall, 0.80 * tall, 0.13 * tall - stride * 0.5, 0.44 * tall, 0.055 * tall, top, -0.02),
    ]
    faces += _head(0.0, 0.91 * tall, 0.068 * tall, skin, numbers.choice(HAIRS))
    if numbers.chance(0.25):
        bag = numbers.choice(TOPS)
        faces.append(board(0.10 * tall, 0.22 * tall, 0.30 * tall, 0.46 * tall, bag, -0.06))
    return Thing(PERSON, tuple(faces), height=tall, outline=rectangle(0.45, 0.3))


def rider(numbers: Numbers, difficulty: float, sideways: bool) -> Thing:
    """Someone who sits on a bicycle or motorcycle.

    Args:
        numbers: Random numbers.
        difficulty: 0 to 1.
        sideways: Whether the camera sees a side of them, with the front to its right, or rather their back or chest.
    """
    top, trousers, skin = _clothes(numbers.choice(TOPS), difficulty), numbers.choice(TROUSERS), numbers.choice(SKINS)
    helmet = numbers.choice(TOPS) if numbers.chance(0.6) else numbers.choice(HAIRS)
    if sideways:
        faces = [
            _limb(-0.15, 0.98, 0.12, 0.62, 0.16, trousers),
            _limb(0.12, 0.66, 0.0, 0.2, 0.13, trousers),
            _slanted(-0.2, 0.92, 0.08, 1.45, 0.30, top, -0.02),
            _limb(0.06, 1.36, 0.36, 1.02, 0.10, top, -0.04),
        ]
        faces += _head(0.16, 1.62, 0.12, skin, helmet)
    else:
        faces = [
            _limb(-0.11, 0.98, -0.14, 0.28, 0.15, trousers),
            _limb(0.11, 0.98, 0.14, 0.42, 0.15, trousers),
            _trunk(0.22, 0.16, 0.88, 1.46, top, -0.02),
            _limb(-0.22, 1.42, -0.29, 1.02, 0.09, top, -0.03),
            _limb(0.22, 1.42, 0.29, 1.02, 0.09, top, -0.03),
        ]
        faces += _head(0.0, 1.62, 0.12, skin, helmet)
    return Thing(RIDER, tuple(faces), height=1.75, outline=rectangle(0.5, 0.6))


def _clothes(colour: Colour, difficulty: float) -> Colour:
    """Return duller clothes in harder scenes."""
    grey = (colour[0] + colour[1] + colour[2]) / 3
    vivid = 1.15 - 0.65 * difficulty
    red, green, blue = (min(max(grey + (value - grey) * vivid, 0.02), 1.0) for value in colour)
    return red, green, blue


def _head(x: float, y: float, radius: float, skin: Colour, hair: Colour) -> list[Face]:
    crown = ((x - radius * 1.05, y + radius * 0.2, -0.045), (x + radius * 1.05, y + radius * 0.2, -0.045),
             (x + radius * 0.7, y + radius * 1.15, -0.045), (x - radius * 0.7, y + radius * 1.15, -0.045))  # fmt: skip
    return [disc((x, y, -0.04), radius, skin), Face(crown, hair)]


def _limb(x: float, y: float, next_x: float, next_y: float, wide: float, colour: Colour, ahead: float = 0.0) -> Face:
    """An arm or a leg from above to below."""
    half, thin = wide / 2, wide * 0.4
    return Face(
        ((x - half, y, ahead), (next_x - thin, next_y, ahead), (next_x + thin, next_y, ahead), (x + half, y, ahead)),
        colour,
    )


def _trunk(shoulder: float, hip: float, low: float, high: float, colour: Colour, ahead: float) -> Face:
    return Face(((-hip, low, ahead), (hip, low, ahead), (shoulder, high, ahead), (-shoulder, high, ahead)), colour)


def _slanted(x: float, y: float, next_x: float, next_y: float, wide: float, colour: Colour, ahead: float) -> Face:
    half = wide / 2
    corners = (
        (x - half, y, ahead),
        (x + half, y, ahead),
        (next_x + half, next_y, ahead),
        (next_x - half, next_y, ahead),
    )
    return Face(corners, colour)

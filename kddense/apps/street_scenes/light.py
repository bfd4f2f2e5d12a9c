"""Sun, sky and air of a scene, by day and at dusk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .camera import Point
from .numbers import Numbers

Colour = tuple[float, float, float]  # red, green, blue from 0 to 1


@dataclass(frozen=True)
class Light:
    """The light of a scene.

    Attributes:
        sun: Direction to the sun, ``(across, up, along)``, of length 1.
        sunshine: Colour and strength of the sunlight.
        ambient: Colour and strength of the light from the sky.
        zenith: Colour of the sky above.
        haze: Colour of the sky at the horizon, and of fog.
        fog: How fast things fade into it, per metre.
        cloudiness: 0 for a clear sky to 1 for an overcast one.
        dusk: Whether lamps and windows are lit.
    """

    sun: Point
    sunshine: Colour
    ambient: Colour
    zenith: Colour
    haze: Colour
    fog: float
    cloudiness: float
    dusk: bool

    def on(self, up: np.ndarray, sunward: np.ndarray) -> np.ndarray:
        """Return the light, ``(3, N)``, that surfaces receive.

        Args:
            up: How far each looks up, the cosine of an angle: the last one of its normal's components.
            sunward: How far each looks to the sun, likewise; below 0 it lies in its own shadow.
        """
        direct = np.maximum(sunward, 0.0)
        return channels(self.ambient) * (0.82 + 0.18 * up) + channels(self.sunshine) * direct


def channels(colour: Colour) -> np.ndarray:
    """Return a colour as an array, ``(3, 1)``, float32, which pixels ``(3, N)`` broadcast with."""
    return np.array(colour, np.float32)[:, None]


def dot(first: Point, second: Point) -> float:
    """Return the product of two vectors; term by term, for Python 3.12 has changed how ``sum`` rounds."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def unit(vector: Point) -> Point:
    """Return a vector of the same direction and of length 1."""
    length = math.sqrt(dot(vector, vector))
    across, up, along = (value / length for value in vector)
    return across, up, along


def make_light(numbers: Numbers, difficulty: float) -> Light:
    """Draw a time of day and a weather; fog and dusk become more frequent, and denser, with the difficulty (0 to 1)."""
    dusk = numbers.chance(0.06 + 0.4 * difficulty)
    cloudiness = numbers.uniform()
    foggy = numbers.chance(0.05 + 0.5 * difficulty)
    fog = numbers.uniform(0.3, 1.0) * (0.004 + 0.022 * difficulty) if foggy else 0.0012
    side = numbers.choice((-1.0, 1.0))
    if dusk:
        low = unit((side * numbers.uniform(0.2, 1.0), numbers.uniform(0.12, 0.3), numbers.uniform(-0.3, 1.0)))
        glow = numbers.uniform()
        haze = (0.42 + 0.30 * glow, 0.34 + 0.08 * glow, 0.42 - 0.12 * glow)
        return Light(
            low, (0.26, 0.15, 0.09), (0.30, 0.32, 0.43), (0.10, 0.13, 0.28), haze, fog, 0.6 * cloudiness, dusk=True
        )
    high = unit((side * numbers.uniform(0.3, 1.0), numbers.uniform(0.5, 1.3), numbers.uniform(-1.0, 0.7)))
    strength = 0.62 * (1 - 0.85 * cloudiness)
    ambient = 0.50 + 0.16 * cloudiness
    grey = 0.75 * cloudiness
    zenith = (0.25 + 0.42 * grey, 0.47 + 0.26 * grey, 0.82 - 0.02 * grey)
    haze = (0.76 + 0.06 * grey, 0.84, 0.92 - 0.04 * grey)
    sunshine = (strength, 0.96 * strength, 0.84 * strength)
    return Light(high, sunshine, (0.97 * ambient, ambient, 1.06 * ambient), zenith, haze, fog, cloudiness, dusk=False)

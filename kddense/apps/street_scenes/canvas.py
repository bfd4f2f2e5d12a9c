"""Drawing with depth: label, instance, depth and colour of a pixel all come from the one surface that it shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .camera import NEAREST, Camera

NOTHING = 0


class Canvas:
    """What is nearest in each pixel.

    Args:
        camera: Whose picture it is.

    Attributes:
        nearness: ``(H, W)``, float64, one over the depth in metres; 0 where nothing is.
        surface: ``(H, W)``, the number of the surface that is seen, from 1 on; :data:`NOTHING` elsewhere.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.nearness = np.zeros((camera.height, camera.width))
        self.surface = np.full((camera.height, camera.width), NOTHING)

    def put(self, row: np.ndarray, column: np.ndarray, nearness: np.ndarray, surface: np.ndarray) -> None:
        """Show surfaces in pixels, among which one may be several times, wherever they are the nearest."""
        nearest_there, surface_there = self.nearness.reshape(-1), self.surface.reshape(-1)
        pixel = row * self.camera.width + column
        nearer = np.flatnonzero((nearness > nearest_there[pixel]) & (nearness <= 1 / NEAREST))
        pixel, nearness = pixel[nearer], nearness[nearer]
        np.maximum.at(nearest_there, pixel, nearness)
        shown = np.flatnonzero(nearness == nearest_there[pixel])
        surface_there[pixel[shown]] = surface[nearer[shown]]


@dataclass(frozen=True)
class Picture:
    """What the camera sees, before lens and sensor; all of height H and width W.

    Attributes:
        camera: The camera.
        nearness: ``(H, W)``, float64, one over the depth in metres; 0 where nothing is.
        colour: ``(3, H, W)``, float32: red, green, blue.
        label: ``(H, W)``, uint8, label ids.
        instance: ``(H, W)``, the number of the thing, from 1 on; 0 where none is.
    """

    camera: Camera
    nearness: np.ndarray
    colour: np.ndarray
    label: np.ndarray
    instance: np.ndarray

    def paint(self, row: np.ndarray, column: np.ndarray, colours: np.ndarray) -> None:
        """Give pixels colours, ``(3, N)``."""
        for channel, values in zip(self.colour, colours, strict=True):
            channel[row, column] = values

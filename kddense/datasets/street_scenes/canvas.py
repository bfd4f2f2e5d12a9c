"""Drawing with depth: every polygon gives colour, label, instance and depth to exactly the same pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .camera import NEAREST, Camera, Point, View, clip
from .light import Light, dot, unit
from .numbers import cells
from .things import Blob, Face, Thing, normal_of

_EDGE_ON = 1e-6
_LEAST_FOR_DETAILS = 9  # pixels tall


@dataclass(frozen=True)
class Patch:
    """The part of the picture that a shape covers.

    Attributes:
        window: Slices of rows and columns.
        inside: Which of the window's pixels it covers, shape ``(h, w)``.
        nearness: One over the depth in metres, same shape; only what is inside counts.
    """

    window: tuple[slice, slice]
    inside: np.ndarray
    nearness: np.ndarray


class Canvas:
    """The picture as it grows: buffers of one entry for each pixel.

    Args:
        camera: Whose picture it is.
        light: What shines on the things.

    Attributes:
        colour: ``(H, W, 3)``, float64, 0 to 1.
        nearness: ``(H, W)``, float64, one over the depth in metres; 0 where nothing is.
        label: ``(H, W)``, uint8, label ids.
        instance: ``(H, W)``, int32, the number of the thing; 0 for what is not counted.
    """

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        shape = (camera.height, camera.width)
        self.colour = np.zeros((*shape, 3))
        self.nearness = np.zeros(shape)
        self.label = np.zeros(shape, np.uint8)
        self.instance = np.zeros(shape, np.int32)
        # Through the middle of a pixel: how far to the right, and down, for each metre of depth.
        self.across = (np.arange(camera.width) + 0.5 - camera.width / 2) / camera.focal
        self.down = ((np.arange(camera.height) + 0.5 - camera.horizon) / camera.focal)[:, None]

    def draw(self, thing: Thing, number: int = 0) -> None:
        """Draw a thing wherever it is nearer than what is there; ``number`` tells it from others of its class."""
        if self._is_hidden(thing):
            return
        is_small = self._pixels_tall(thing) < _LEAST_FOR_DETAILS
        view, light = self.camera.view.within(thing.origin, thing.forward), self.light.within(thing.forward)
        for face in thing.faces:
            if not (face.is_detail and is_small):
                self._draw_face(face, view, light, thing.label, number)
        for blob in thing.blobs:
            self._draw_blob(blob, view, light, thing.label, number)

    def cover(self, corners: Sequence[Point], view: View, behind: Point | None = None) -> Patch | None:
        """Find the visible part of a convex polygon.

        Args:
            corners: In one plane.
            view: Where the camera is, in their coordinates.
            behind: A point inside the solid that the polygon is a side of: sides that face away are not visible.

        Returns:
            None if nothing is visible.
        """
        normal, first = normal_of(corners), corners[0]
        distance = dot(normal, (first[0] - view.across, first[1] - view.up, first[2] - view.along))
        if abs(distance) < _EDGE_ON:
            return None
        if behind is not None:
            outward = dot(normal, (first[0] - behind[0], first[1] - behind[1], first[2] - behind[2]))
            if outward * distance >= 0:
                return None
        flat = [(right / depth, down / depth) for right, down, depth in clip(list(map(view.see, corners)))]
        window = self._window(flat)
        if window is None:
            return None
        rows, columns = window
        across, down = self.across[columns], self.down[rows]
        right, lower, ahead = view.turned(normal)
        nearness = down * (lower / distance) + (across * (right / distance) + ahead / distance)
        inside = nearness > self.nearness[window]
        if not inside.any():  # behind what is there, as most of a street is
            return None
        if distance > 0:
            flat.reverse()  # so that the inside is on the same side of every edge
        corner = np.array(flat)
        edge = np.array(flat[1:] + flat[:1]) - corner
        upright = edge[:, :1] * (down[:, 0] - corner[:, 1:])
        level = edge[:, 1:] * (across - corner[:, :1])
        inside &= (upright[:, :, None] >= level[:, None, :]).all(axis=0)
        return Patch(window, inside, nearness) if inside.any() else None

    def _draw_face(self, face: Face, view: View, light: Light, label: int, number: int) -> None:
        patch = self.cover(face.corners, view, face.behind)
        if patch is None:
            return
        received = np.array(light.on(_outward(face, view)))
        if face.texture is None:
            lit = np.array(face.colour) * received
        else:
            lit = face.texture(*self._texture_coordinates(face, view, patch), np.array(face.colour)) * received
        if face.glow is not None and light.dusk:
            lit = lit + face.glow(*self._texture_coordinates(face, view, patch))
        self._put(patch, lit, label, number)

    def _draw_blob(self, blob: Blob, view: View, light: Light, label: int, number: int) -> None:
        right, down, depth = view.see(blob.centre)
        if depth < NEAREST + blob.radius:
            return
        x, y, size = right / depth, down / depth, blob.radius / depth
        window = self._window([(x - size, y - size), (x + size, y + size)])
        if window is None:
            return
        rows, columns = window
        across, lower = (self.across[columns] - x) / size, (self.down[rows] - y) / size
        outward = 1 - across * across - lower * lower
        grain = cells(across * blob.leaves + 97, lower * blob.leaves + 97, blob.salt)
        bulge = np.sqrt(np.maximum(outward, 0.0))
        nearness = 1 / (depth - 0.6 * blob.radius * bulge)
        inside = (outward > 0.45 * blob.raggedness * grain) & (nearness > self.nearness[window])
        if not inside.any():
            return
        sun = view.turned(light.sun)
        direct = np.maximum(across * sun[0] + lower * sun[1] - bulge * sun[2], 0.0)[inside, None]
        indirect = (0.78 - 0.22 * (lower + 0 * across))[inside, None]
        received = np.array(light.ambient) * indirect + np.array(light.sunshine) * direct
        speckles = 1 + blob.speckle * (grain[inside, None] - 0.5)
        self._put(Patch(window, inside, nearness), np.array(blob.colour) * speckles * received, label, number)

    def _put(self, patch: Patch, colours: np.ndarray, label: int, number: int) -> None:
        """Paint one colour, ``(3,)``, or one for each pixel inside, ``(N, 3)``."""
        window, inside = patch.window, patch.inside
        if colours.ndim == 1:
            np.copyto(self.colour[window], colours, where=inside[..., None])
        else:
            self.colour[window][inside] = colours
        np.copyto(self.nearness[window], patch.nearness, where=inside)
        np.copyto(self.label[window], label, where=inside, casting='unsafe')
        np.copyto(self.instance[window], number, where=inside, casting='unsafe')

    def _texture_coordinates(self, face: Face, view: View, patch: Patch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return metres from the face's first corner along its first edge, metres up, and how many a pixel covers."""
        depth = 1 / patch.nearness[patch.inside]
        rows, columns = np.nonzero(patch.inside)
        right = self.across[patch.window[1]][columns] * depth
        down = self.down[patch.window[0]][:, 0][rows] * depth
        start, end = map(view.see, face.corners[:2])
        edge = unit((end[0] - start[0], end[1] - start[1], end[2] - start[2]))
        along = (right - start[0]) * edge[0] + (down - start[1]) * edge[1] + (depth - start[2]) * edge[2]
        return along, view.up - down, depth / self.camera.focal

    def _is_hidden(self, thing: Thing) -> bool:
        """Tell, from the box around it, whether a thing is out of sight or behind what has been drawn."""
        seen = [self.camera.view.see((across, 0.0, along)) for across, along in thing.outline]
        if not seen:
            return False
        nearest, farthest = min(point[2] for point in seen) - thing.reach, max(point[2] for point in seen) + thing.reach
        if farthest < NEAREST:
            return True
        if nearest < NEAREST:
            return False
        left, right = min(point[0] for point in seen) - thing.reach, max(point[0] for point in seen) + thing.reach
        top, bottom = self.camera.elevation - thing.height - thing.reach, self.camera.elevation
        corners = [(x / z, y / z) for z in (nearest, farthest) for x, y in ((left, top), (right, bottom))]
        window = self._window(corners)
        return window is None or bool((self.nearness[window] > 1 / nearest).all())

    def _pixels_tall(self, thing: Thing) -> float:
        depth = max(self.camera.depth(*thing.place), NEAREST)
        return self.camera.focal * thing.height / depth

    def _window(self, flat: list[tuple[float, float]]) -> tuple[slice, slice] | None:
        """Return the pixels whose middle lies in the bounding box of points ``(right, down)`` at depth 1."""
        if len(flat) < 2:
            return None
        across, down = zip(*flat, strict=True)
        camera, middle = self.camera, self.camera.width / 2
        columns = _pixels(min(across) * camera.focal + middle, max(across) * camera.focal + middle, camera.width)
        rows = _pixels(
            min(down) * camera.focal + camera.horizon, max(down) * camera.focal + camera.horizon, camera.height
        )
        return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _pixels(low: float, high: float, size: int) -> slice:
    """Return the pixels of a row or column whose middle may lie between two places."""
    start, stop = int(min(max(low - 0.5, 0.0), size)), int(min(max(high + 0.5, 0.0), size))
    return slice(start, stop)


def _outward(face: Face, view: View) -> Point:
    """Return the normal of a face, of length 1: away from its solid, or else towards the camera."""
    normal = unit(normal_of(face.corners))
    x, y, z = face.corners[0]
    inner = face.behind
    if inner is None:
        towards = dot(normal, (view.across - x, view.up - y, view.along - z))
    else:
        towards = dot(normal, (x - inner[0], y - inner[1], z - inner[2]))
    return normal if towards >= 0 else (-normal[0], -normal[1], -normal[2])

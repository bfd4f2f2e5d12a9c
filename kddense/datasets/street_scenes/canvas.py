"""Drawing with depth: every polygon gives colour, label, instance and depth to exactly the same pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .camera import NEAREST, Camera, Point, clip
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
        pixels = self._pixels_tall(thing)
        for face in thing.placed_faces():
            if not (face.is_detail and pixels < _LEAST_FOR_DETAILS):
                self._draw_face(face, thing.label, number)
        for blob in thing.placed_blobs():
            self._draw_blob(blob, thing.label, number)

    def cover(self, corners: tuple[Point, ...], behind: Point | None = None) -> Patch | None:
        """Find the visible part of a convex polygon.

        Args:
            corners: In the street's coordinates, in one plane.
            behind: A point inside the solid that the polygon is a side of: sides that face away are not visible.

        Returns:
            None if nothing is visible.
        """
        seen = [self.camera.see(corner) for corner in corners]
        normal = normal_of(seen)
        distance = dot(normal, seen[0])
        if abs(distance) < _EDGE_ON:
            return None
        if behind is not None and (dot(normal, self.camera.see(behind)) - distance) * distance <= 0:
            return None
        flat = [(right / depth, down / depth) for right, down, depth in clip(seen)]
        window = self._window(flat)
        if window is None:
            return None
        rows, columns = window
        across, down = self.across[columns], self.down[rows]
        nearness = down * (normal[1] / distance) + (across * (normal[0] / distance) + normal[2] / distance)
        inside = nearness > self.nearness[window]
        if distance < 0:
            flat.reverse()  # so that the inside is on the same side of every edge
        corner = np.array(flat)
        edge = np.array(flat[1:] + flat[:1]) - corner
        upright = edge[:, :1] * (down[:, 0] - corner[:, 1:])
        level = edge[:, 1:] * (across - corner[:, :1])
        inside &= (upright[:, :, None] >= level[:, None, :]).all(axis=0)
        return Patch(window, inside, nearness) if inside.any() else None

    def _draw_face(self, face: Face, label: int, number: int) -> None:
        patch = self.cover(face.corners, face.behind)
        if patch is None:
            return
        light = np.array(self.light.on(self._outward(face)))
        if face.texture is None:
            lit = np.array(face.colour) * light
        else:
            along, up, footprint = self._texture_coordinates(face, patch)
            lit = face.texture(along, up, footprint, np.array(face.colour)) * light
        if face.glow is not None and self.light.dusk:
            along, up, footprint = self._texture_coordinates(face, patch)
            lit = lit + face.glow(along, up, footprint)
        self._put(patch, lit, label, number)

    def _draw_blob(self, blob: Blob, label: int, number: int) -> None:
        right, down, depth = self.camera.see(blob.centre)
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
        sun = self.camera.turned(self.light.sun)
        direct = np.maximum(across * sun[0] + lower * sun[1] - bulge * sun[2], 0.0)[inside, None]
        indirect = (0.78 - 0.22 * (lower + 0 * across))[inside, None]
        light = np.array(self.light.ambient) * indirect + np.array(self.light.sunshine) * direct
        speckles = 1 + blob.speckle * (grain[inside, None] - 0.5)
        self._put(Patch(window, inside, nearness), np.array(blob.colour) * speckles * light, label, number)

    def _put(self, patch: Patch, colours: np.ndarray, label: int, number: int) -> None:
        self.colour[patch.window][patch.inside] = colours
        self.nearness[patch.window][patch.inside] = patch.nearness[patch.inside]
        self.label[patch.window][patch.inside] = label
        self.instance[patch.window][patch.inside] = number

    def _texture_coordinates(self, face: Face, patch: Patch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return metres from the face's first corner along its first edge, metres up, and how many a pixel covers."""
        depth = 1 / patch.nearness[patch.inside]
        rows, columns = np.nonzero(patch.inside)
        right = self.across[patch.window[1]][columns] * depth
        down = self.down[patch.window[0]][:, 0][rows] * depth
        start, end = (self.camera.see(corner) for corner in face.corners[:2])
        edge = unit((end[0] - start[0], end[1] - start[1], end[2] - start[2]))
        along = (right - start[0]) * edge[0] + (down - start[1]) * edge[1] + (depth - start[2]) * edge[2]
        return along, self.camera.elevation - down, depth / self.camera.focal

    def _outward(self, face: Face) -> Point:
        """Return the face's normal in the street's directions, away from its solid, or else towards the camera."""
        normal = unit(normal_of(face.corners))
        first = face.corners[0]
        if face.behind is not None:
            inner = face.behind
            towards = dot(normal, (first[0] - inner[0], first[1] - inner[1], first[2] - inner[2]))
        else:
            towards = dot(normal, (self.camera.offset - first[0], self.camera.elevation - first[1], -first[2]))
        return normal if towards >= 0 else (-normal[0], -normal[1], -normal[2])

    def _is_hidden(self, thing: Thing) -> bool:
        """Tell, from the box around it, whether a thing is out of sight or behind what has been drawn."""
        seen = [self.camera.see((across, 0.0, along)) for across, along in thing.outline]
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
        camera = self.camera
        left, right = (value * camera.focal + camera.width / 2 for value in (min(across), max(across)))
        top, bottom = (value * camera.focal + camera.horizon for value in (min(down), max(down)))
        columns = slice(_clamp(left - 0.5, camera.width), _clamp(right + 1.5, camera.width))
        rows = slice(_clamp(top - 0.5, camera.height), _clamp(bottom + 1.5, camera.height))
        return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _clamp(value: float, limit: int) -> int:
    return int(min(max(value, 0), limit))

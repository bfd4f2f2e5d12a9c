"""From shapes, as the camera sees them, to the pixels that they cover: all shapes at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .camera import NEAREST, Camera

_EDGE_ON = 1e-6
_UNBOUNDED = 1e30


@dataclass(frozen=True)
class Spans:
    """Runs of pixels, each in one row.

    Attributes:
        shape: Which shape each covers.
        row: Where it lies.
        start: Its first column.
        stop: The column behind its last one.
    """

    shape: np.ndarray
    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the span and the column of every pixel, one span after another."""
        return ranges(self.start, self.stop)


class Polygons:
    """Flat convex polygons.

    Args:
        corners: ``(3, N)``: ``right``, ``down`` and ``depth`` of the corners of all, one polygon after another.
        sizes: ``(P,)``, how many corners each has.

    Attributes:
        first: ``(P,)``, where in ``corners`` each begins.
        normal: ``(3, P)``, of any length.
        distance: ``(P,)``, from the camera to the plane, in lengths of the normal; with a sign.
    """

    def __init__(self, corners: np.ndarray, sizes: np.ndarray) -> None:
        self.corners = corners
        self.sizes = sizes
        self.first = np.cumsum(sizes) - sizes
        start = corners.take(self.first, axis=1)
        self.normal = cross(corners.take(self.first + 1, axis=1) - start, corners.take(self.first + 2, axis=1) - start)
        self.distance = dot(self.normal, start)

    def spans(self, camera: Camera, wanted: np.ndarray | None = None) -> Spans:
        """Find the pixels whose middle the polygons cover; parts nearer than :data:`NEAREST` included.

        Args:
            camera: The camera.
            wanted: ``(P,)``, which polygons to look for; all by default.
        """
        top, bottom, is_in_sight = self._rows(camera)
        if wanted is not None:
            is_in_sight &= wanted
        kept = np.flatnonzero(is_in_sight)
        number, row = ranges(top[kept], bottom[kept])
        polygon = kept[number]
        sizes = self.sizes[polygon]
        line, edge = ranges(self.first[polygon], self.first[polygon] + sizes)
        slope, level, constant = self._edges()
        # On the inner side of an edge: slope * across + level * down + constant >= 0.
        slope = slope[edge]
        limit = (level[edge] * camera.down[row][line] + constant[edge]) / -slope
        begins = np.cumsum(sizes) - sizes
        left = np.maximum.reduceat(np.where(slope > 0, limit, -_UNBOUNDED), begins)
        right = np.minimum.reduceat(np.where(slope < 0, limit, _UNBOUNDED), begins)
        start, stop = columns_between(camera, left, right)
        some = np.flatnonzero(start < stop)
        return Spans(polygon[some], row[some], start[some], stop[some])

    def nearness(self, camera: Camera, spans: Spans, span: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return one over the depth in metres at pixels of spans."""
        across, down, ahead = self.normal.take(spans.shape, axis=1) / self.distance[spans.shape]
        level = down * camera.down[spans.row] + ahead
        return across[span] * camera.across[column] + level[span]

    def _rows(self, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the first row of each, the one behind its last, and whether any of it may be in the picture."""
        right, down, depth = self.corners
        nearest, farthest = self._extent(depth)
        is_whole, is_ahead = nearest >= NEAREST, farthest >= NEAREST
        ahead = np.maximum(depth, NEAREST)
        top, bottom = rows_between(camera, *self._extent(down / ahead))
        left, right = columns_between(camera, *self._extent(right / ahead))
        is_in_sight = np.where(is_whole, (top < bottom) & (left < right), is_ahead) & (np.abs(self.distance) > _EDGE_ON)
        return np.where(is_whole, top, 0), np.where(is_whole, bottom, camera.height), is_in_sight

    def _extent(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the greatest value among the corners of each."""
        return np.minimum.reduceat(values, self.first), np.maximum.reduceat(values, self.first)

    def _edges(self) -> np.ndarray:
        """Return normals, ``(3, N)``, that look inwards, of the planes through the camera and each edge."""
        following = np.arange(1, self.corners.shape[1] + 1)
        following[self.first + self.sizes - 1] = self.first
        inwards = cross(self.corners, self.corners.take(following, axis=1)) * np.repeat(
            np.sign(self.distance), self.sizes
        )
        inwards[0][inwards[0] == 0] = 1 / _UNBOUNDED
        return inwards


def ranges(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all whole numbers from each start to before its stop, one range after another, and of which range each is."""
    counts = stop - start
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which)) + (start - (np.cumsum(counts) - counts))[which]


def columns_between(camera: Camera, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first column, and the one behind the last, whose middle lies between places at depth 1."""
    return _pixels_between(left, right, camera.focal, camera.width / 2, camera.width)


def rows_between(camera: Camera, top: np.ndarray, bottom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row, and the one behind the last, whose middle lies between places at depth 1."""
    return _pixels_between(top, bottom, camera.focal, camera.horizon, camera.height)


def _pixels_between(
    low: np.ndarray, high: np.ndarray, focal: float, middle: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    start = np.ceil(np.clip(low * focal + (middle - 0.5), 0, size))
    stop = np.floor(np.clip(high * focal + (middle + 0.5), 0, size))
    return start.astype(np.intp), np.maximum(start, stop).astype(np.intp)


def cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cross products of vectors, both ``(3, N)``."""
    (a, b, c), (d, e, f) = first, second
    return np.stack([b * f - c * e, c * d - a * f, a * e - b * d])


def dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the products of vectors, both ``(3, N)``; term by term, for numpy's sums round differently elsewhere."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]

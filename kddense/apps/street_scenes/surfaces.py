"""The surfaces of things, faces and balls of leaves: which pixels show them, and in which colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from .camera import NEAREST, Camera
from .canvas import NOTHING, Canvas, Picture
from .labels import UNLABELLED
from .light import Light, channels
from .numbers import cells
from .raster import Polygons, Spans, columns_between, dot, ranges, rows_between
from .things import Face, Spots, Texture, Thing

_LEAST_FOR_DETAILS = 9  # pixels tall
_NOWHERE = (float('nan'),) * 3


def draw(things: Sequence[Thing], canvas: Canvas, light: Light) -> Picture:
    """Draw things, in any order, wherever they are nearer than what is on the canvas.

    Args:
        things: The first one is instance 1.
        canvas: What to draw on.
        light: The light of the scene.
    """
    faces = _Faces(things, canvas.camera, NOTHING + 1)
    leaves = _Leaves(things, canvas.camera, faces.first + len(faces.thing))
    faces.put(canvas)
    leaves.put(canvas)
    instance = np.concatenate([[0], faces.thing + 1, leaves.thing + 1])
    label = np.array([UNLABELLED, *(thing.label for thing in things)], np.uint8)[instance]
    colours = np.zeros((3, len(instance)), np.float32)
    colours[:, faces.first : leaves.first] = faces.colours(light)
    surface = canvas.surface
    colour = np.take(colours, surface, axis=1)
    picture = Picture(canvas.camera, canvas.nearness, colour, label[surface], instance[surface])
    faces.paint(picture, surface, light)
    leaves.paint(picture, surface, light)
    return picture


class _Faces:
    """The faces of things, F of them, as the camera sees them.

    Attributes:
        first: The number of the first one among all surfaces.
        thing: ``(F,)``, which thing each belongs to.
    """

    def __init__(self, things: Sequence[Thing], camera: Camera, first: int) -> None:
        of_things = [_worth_drawing(thing, camera) for thing in things]
        self.first = first
        self.thing = np.repeat(np.arange(len(things)), [len(faces) for faces in of_things])
        self._camera = camera
        self._faces = list(chain.from_iterable(of_things))
        sizes = np.array([len(face.corners) for face in self._faces], np.intp)
        corners = _vectors(chain.from_iterable(face.corners for face in self._faces))
        self._polygons = Polygons(_seen(corners, np.repeat(self.thing, sizes), things, camera), sizes)
        behind = _seen(_vectors(face.behind or _NOWHERE for face in self._faces), self.thing, things, camera)
        outward = dot(self._polygons.normal, self._polygons.corners[:, self._polygons.first] - behind)
        # Boards, which have nothing behind them, are seen from both sides.
        self._looks_away = outward * self._polygons.distance >= 0

    def put(self, canvas: Canvas) -> None:
        """Show them on the canvas."""
        spans = self._polygons.spans(self._camera, ~self._looks_away)
        span, column = spans.pixels()
        nearness = self._polygons.nearness(self._camera, spans, span, column)
        canvas.put(spans.row[span], column, nearness, self.first + spans.shape[span])

    def colours(self, light: Light) -> np.ndarray:
        """Return the colour, ``(3, F)``, in which each is seen if it has no texture."""
        colours = _vectors(face.colour for face in self._faces) * self._received(light, slice(None))
        return colours + _vectors(face.shine for face in self._faces) if light.dusk else colours

    def paint(self, picture: Picture, surface: np.ndarray, light: Light) -> None:
        """Paint those with a texture; ``surface`` is what each pixel shows, ``(H, W)``."""
        face = np.clip(surface - self.first, -1, len(self._faces))
        is_seen = np.bincount(face.ravel() + 1, minlength=len(self._faces) + 2)[1:-1] > 0
        for kind, numbers in self._textured(np.flatnonzero(is_seen).tolist()).items():
            which = np.full(len(self._faces) + 2, -1)  # with two more at the end for what is no face: F and -1
            which[numbers] = np.arange(len(numbers))
            self._paint_kind(kind, numbers, which[face], picture, light)

    def _textured(self, numbers: list[int]) -> dict[type[Texture], list[int]]:
        """Return those of these faces that have a texture, by its class."""
        kinds: dict[type[Texture], list[int]] = {}
        for number in numbers:
            texture = self._faces[number].texture
            if texture is not None:
                kinds.setdefault(type(texture), []).append(number)
        return kinds

    def _paint_kind(
        self, kind: type[Texture], numbers: list[int], which: np.ndarray, picture: Picture, light: Light
    ) -> None:
        """Paint faces whose textures are of one class; ``which`` of these a pixel shows, ``(H, W)``, or -1."""
        row, column = np.nonzero(which >= 0)
        one = which[row, column]
        faces = [self._faces[number] for number in numbers]

        def of_each(values: np.ndarray) -> np.ndarray:
            return values.astype(np.float32).take(one, axis=1)

        texture = kind(*of_each(np.array([face.texture for face in faces]).T))
        spots = self._spots(numbers, one, row, column, picture)
        lit = texture.colours(spots, of_each(_vectors(face.colour for face in faces)))
        lit *= of_each(self._received(light, numbers))
        if light.dusk:
            lit += texture.glow(spots)
        picture.paint(row, column, lit)

    def _received(self, light: Light, numbers: list[int] | slice) -> np.ndarray:
        """Return the light, ``(3, N)``, on the side of faces that the camera sees."""
        normal, distance = self._polygons.normal[:, numbers], self._polygons.distance[numbers]
        outward = normal * (-np.sign(distance) / np.sqrt(dot(normal, normal)))
        sun = np.array(self._camera.turned(light.sun))[:, None]
        return light.on(-outward[1], dot(outward, sun))

    def _spots(
        self, numbers: list[int], one: np.ndarray, row: np.ndarray, column: np.ndarray, picture: Picture
    ) -> Spots:
        """Return where pixels lie on faces, each on ``one`` of them."""
        camera, first = self._camera, self._polygons.first[numbers]
        start = self._polygons.corners[:, first]
        edge = self._polygons.corners[:, first + 1] - start
        edge /= np.sqrt(dot(edge, edge))
        depth = 1 / picture.nearness[row, column]
        right, down = camera.across[column] * depth, camera.down[row] * depth
        along = right * edge[0][one] + down * edge[1][one] + depth * edge[2][one] - dot(start, edge)[one]
        return Spots(*(metres.astype(np.float32) for metres in (along, camera.elevation - down, depth / camera.focal)))


class _Leaves:
    """The balls of leaves of things, B of them, as the camera sees them.

    Attributes:
        first: The number of the first one among all surfaces.
        thing: ``(B,)``, which thing each belongs to.
    """

    def __init__(self, things: Sequence[Thing], camera: Camera, first: int) -> None:
        self.first = first
        blobs = [blob for thing in things for blob in thing.blobs]
        self._camera = camera
        self.thing = np.repeat(np.arange(len(things)), [len(thing.blobs) for thing in things])
        self._colour = _vectors(blob.colour for blob in blobs).astype(np.float32)
        self._salt = np.array([blob.salt for blob in blobs], np.int32)
        self._radius = np.array([blob.radius for blob in blobs])
        self._raggedness, self._leaves, self._speckle = _vectors(
            (blob.raggedness, blob.leaves, blob.speckle) for blob in blobs
        ).astype(np.float32)
        right, down, self._depth = _seen(_vectors(blob.centre for blob in blobs), self.thing, things, camera)
        ahead = np.maximum(self._depth, NEAREST)
        self._right, self._down, self._size = right / ahead, down / ahead, self._radius / ahead

    def put(self, canvas: Canvas) -> None:
        """Show them on the canvas."""
        spans = self._spans()
        span, column = spans.pixels()
        ball, row = spans.shape[span], spans.row[span]
        across, lower, grain = self._on_ball(ball, row, column)
        outward = 1 - across * across - lower * lower
        shown = np.flatnonzero(outward > 0.45 * self._raggedness[ball] * grain)
        ball, bulge = ball[shown], np.sqrt(outward[shown])
        nearness = 1 / (self._depth[ball] - 0.6 * self._radius[ball] * bulge)
        canvas.put(row[shown], column[shown], nearness, self.first + ball)

    def paint(self, picture: Picture, surface: np.ndarray, light: Light) -> None:
        """Paint them; ``surface`` is what each pixel shows, ``(H, W)``."""
        row, column = np.nonzero(surface >= self.first)
        ball = surface[row, column] - self.first
        across, lower, grain = self._on_ball(ball, row, column)
        bulge = np.sqrt(np.maximum(1 - across * across - lower * lower, 0.0))
        right, down, ahead = self._camera.turned(light.sun)
        direct = np.maximum(across * right + lower * down - bulge * ahead, 0.0)
        received = channels(light.ambient) * (0.78 - 0.22 * lower) + channels(light.sunshine) * direct
        speckles = 1 + self._speckle[ball] * (grain - 0.5)
        picture.paint(row, column, np.take(self._colour, ball, axis=1) * speckles * received)

    def _spans(self) -> Spans:
        """Find the pixels of the discs that they are seen as."""
        camera, size = self._camera, self._size
        is_ahead = self._depth >= NEAREST + self._radius
        top, bottom = rows_between(camera, self._down - size, self._down + size)
        ball, row = ranges(top, np.where(is_ahead, bottom, top))
        lower = (camera.down[row] - self._down[ball]) / size[ball]
        half = size[ball] * np.sqrt(np.maximum(1 - lower * lower, 0.0))
        return Spans(ball, row, *columns_between(camera, self._right[ball] - half, self._right[ball] + half))

    def _on_ball(self, ball: np.ndarray, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return how far to the right and down of a ball's middle, in radii, pixels are, and which grain they have."""
        across = ((self._camera.across[column] - self._right[ball]) / self._size[ball]).astype(np.float32)
        lower = ((self._camera.down[row] - self._down[ball]) / self._size[ball]).astype(np.float32)
        leaves = self._leaves[ball]
        return across, lower, cells(across * leaves + 97, lower * leaves + 97, self._salt[ball])


def _worth_drawing(thing: Thing, camera: Camera) -> Sequence[Face]:
    """Return the faces of a thing, without the details of one that is far away."""
    depth = max(camera.depth(*thing.place), NEAREST)
    if camera.focal * thing.height >= _LEAST_FOR_DETAILS * depth:
        return thing.faces
    return [face for face in thing.faces if not face.is_detail]


def _vectors(triples: Iterable[Sequence[float]]) -> np.ndarray:
    """Return triples of numbers as an array ``(3, N)``."""
    return np.fromiter(chain.from_iterable(triples), np.float64).reshape(-1, 3).T


def _seen(points: np.ndarray, owner: np.ndarray, things: Sequence[Thing], camera: Camera) -> np.ndarray:
    """Return how the camera sees points ``(3, N)``, each in the coordinates of one of the things."""
    places = np.array([(*thing.origin, *thing.forward) for thing in things]).reshape(-1, 4)
    across, along, x, z = places.T.take(owner, axis=1)
    right, up, ahead = points
    return np.stack(camera.see(across + right * z + ahead * x, up, along - right * x + ahead * z))

"""The ground with its road, pavements and markings, and the sky above it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .labels import PAVEMENT, ROAD, SKY, TERRAIN, VEGETATION
from .light import Colour
from .numbers import cells, clouds
from .things import Thing

MARKING = np.array((0.88, 0.88, 0.85))
KERB = np.array((0.66, 0.65, 0.63))
_FARTHEST = 400.0
_SHADOWS_END = 70.0


@dataclass(frozen=True)
class Street:
    """How the ground is divided; all in metres.

    Attributes:
        lane: Width of a lane.
        lanes: How many lead towards the camera, left of the centre line, and away from it.
        parking: Width of the strip for parked cars on each side of the lanes.
        pavements: Width of the pavement on the left and on the right.
        crossing: Where along the street a cross street begins and ends; None without one.
        zebra: Where along the street a zebra crossing begins; None without one.
        has_edge_lines: Whether the outer edges of the lanes are marked.
        asphalt: Its colour.
        paving: The pavement's colour.
        grass: The terrain's colour.
        contrast: How much of the textures is seen, 0 to 1.
        salt: Which stones and stains.
    """

    lane: float
    lanes: tuple[int, int]
    parking: tuple[float, float]
    pavements: tuple[float, float]
    crossing: tuple[float, float] | None
    zebra: float | None
    has_edge_lines: bool
    asphalt: Colour
    paving: Colour
    grass: Colour
    contrast: float
    salt: int

    @property
    def road(self) -> tuple[float, float]:
        """Left and right edge of the road."""
        return -self.lanes[0] * self.lane - self.parking[0], self.lanes[1] * self.lane + self.parking[1]

    @property
    def verge(self) -> tuple[float, float]:
        """Outer edges of the pavements."""
        left, right = self.road
        return left - self.pavements[0], right + self.pavements[1]

    def paint(self, canvas: Canvas, shade: np.ndarray) -> None:
        """Paint the ground up to the horizon.

        Args:
            canvas: What to paint on, still empty.
            shade: How much light reaches each pixel's ground, ``(H, W)``, 0 to 1.
        """
        camera = canvas.camera
        top = min(max(int(camera.horizon + 0.5), 0), camera.height)
        down = canvas.down[top:]
        below = down[:, 0] * _FARTHEST > camera.elevation
        rows = slice(top + int(np.argmax(below)) if below.any() else camera.height, camera.height)
        down = canvas.down[rows]
        depth = camera.elevation / down + 0 * canvas.across
        right = depth * canvas.across
        cosine, sine = camera.turn
        across = camera.offset + right * cosine - depth * sine
        along = right * sine + depth * cosine
        label, colour = self._surface(across, along, depth / camera.focal, depth / camera.focal / down)
        light = np.array(canvas.light.on((0.0, 1.0, 0.0)))
        canvas.colour[rows] = colour * light * shade[rows][..., None]
        canvas.label[rows] = label
        canvas.nearness[rows] = 1 / depth

    def _surface(
        self, across: np.ndarray, along: np.ndarray, wide: np.ndarray, long: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and colours of places; ``wide`` and ``long`` are the metres that a pixel covers there."""
        (left, right), (outer_left, outer_right) = self.road, self.verge
        start, end = self.crossing or (1e9, 1e9)
        in_crossing = (along > start) & (along < end)
        near_crossing = (along > start - self.pavements[1]) & (along < end + self.pavements[1])
        is_road = ((across > left) & (across < right)) | in_crossing
        is_paved = ~is_road & (((across > outer_left) & (across < outer_right)) | near_crossing)
        label = np.where(is_road, ROAD, np.where(is_paved, PAVEMENT, TERRAIN)).astype(np.uint8)

        sharp = self.contrast * np.minimum(0.12 / long, 1.0)
        grain = (cells(across * 6, along * 6, self.salt) - 0.5) * sharp
        stains = self.contrast * (clouds(across / 3.1 + 70, along / 9.7 + 70, self.salt + 5, octaves=2) - 0.5)
        slabs = (cells(across / 0.8, along / 0.8, self.salt + 9) - 0.5) * sharp
        pattern = np.where(
            is_road,
            0.30 * (grain + stains),
            np.where(is_paved, 0.15 * grain + 0.22 * slabs, 0.8 * grain + 0.5 * stains),
        )
        colours = np.array((self.asphalt, self.paving, self.grass))
        colour = colours[np.where(is_road, 0, np.where(is_paved, 1, 2))] * (1 + pattern)[..., None]
        edge = np.maximum(_line(across - left + 0.09, 0.09, wide), _line(across - right - 0.09, 0.09, wide))
        colour = colour + (KERB - colour) * (edge * ~in_crossing)[..., None]
        worn = 0.9 - 0.12 * self.contrast - 0.25 * stains
        return label, colour + (MARKING - colour) * (self._markings(across, along, wide, long) * worn)[..., None]

    def _markings(self, across: np.ndarray, along: np.ndarray, wide: np.ndarray, long: np.ndarray) -> np.ndarray:
        """Return how much of each place is white, 0 to 1."""
        left, right = -self.lanes[0] * self.lane, self.lanes[1] * self.lane
        dashes = _line(along - np.floor(along / 6.0) * 6.0 - 1.5, 1.5, long)
        marks = np.zeros(across.shape)
        for index in range(-self.lanes[0] + 1, self.lanes[1]):
            pattern = 1.0 if index == 0 and self.has_edge_lines else dashes
            marks = np.maximum(marks, _line(across - index * self.lane, 0.07, wide) * pattern)
        if self.has_edge_lines:
            for edge in (left + 0.12, right - 0.12):
                marks = np.maximum(marks, _line(across - edge, 0.06, wide))
        if self.crossing is not None:
            start, end = self.crossing
            marks = marks * ((along < start - 0.5) | (along > end + 0.5))
            stop = _line(along - (start - 1.0), 0.2, long) * ((across > 0.2) & (across < right))
            marks = np.maximum(marks, stop)
        if self.zebra is not None:
            on_road = (across > self.road[0] + 0.3) & (across < self.road[1] - 0.3)
            stripes = _line(across - np.floor(across) - 0.5, 0.25, wide) * _line(along - self.zebra - 1.5, 1.5, long)
            is_zebra = (along > self.zebra - 0.6) & (along < self.zebra + 3.6)
            marks = np.where(is_zebra, stripes * on_road, marks)
        return marks


def _line(distance: np.ndarray, half: float, footprint: np.ndarray) -> np.ndarray:
    """Return how much of a place lies within ``half`` of a line, 0 to 1."""
    near = np.clip((half - np.abs(distance)) / footprint + 0.5, 0.0, 1.0)
    return np.minimum(near, np.minimum(2 * half / footprint, 1.0))


def paint_sky(canvas: Canvas, salt: int) -> None:
    """Paint sky, clouds, and a far line of trees that hides the horizon, wherever nothing is yet."""
    camera, light = canvas.camera, canvas.light
    rows = slice(0, min(max(int(camera.horizon + 2.5), 1), camera.height))
    height = np.maximum(-canvas.down[rows], 0.0)
    rise = height / (height + 0.25)
    haze, zenith = np.array(light.haze), np.array(light.zenith)
    across = np.broadcast_to(canvas.across, (height.shape[0], camera.width))
    far = 1 / (height + 0.12)
    drift = clouds(across * far * 0.9 + 50, far * 0.8 + 50, salt, octaves=3)
    cover = np.clip((drift - 0.62 + 0.42 * light.cloudiness) * 3.2, 0.0, 1.0) * np.minimum(height * 6, 1.0)
    sky = haze + (zenith - haze) * rise[..., None] + 0 * across[..., None]
    white = haze * 0.85 + (np.array((0.30, 0.30, 0.33)) if light.dusk else np.array((0.16, 0.15, 0.14)))
    shaded = white * (1.0 - 0.28 * light.cloudiness * drift)[..., None]
    sky = sky + (shaded - sky) * (cover * 0.85)[..., None]
    if light.dusk:
        sun = camera.view.turned(light.sun)
        if sun[2] > 0.1:
            distance = (across - sun[0] / sun[2]) * (across - sun[0] / sun[2]) + height * height * 3
            sky = sky + np.array((0.42, 0.22, 0.06)) / (1 + 5 * distance)[..., None]
    line = clouds(canvas.across * 7 + 30, canvas.across * 0 + 3.5, salt + 17, octaves=3)
    is_wood = height < 0.012 + 0.055 * line
    wood = haze * 0.55 + np.array((0.05, 0.10, 0.06)) * (0.6 + cells(across * 90, height * 90, salt))[..., None]
    empty = canvas.nearness[rows] == 0
    canvas.colour[rows] = np.where(empty[..., None], np.where(is_wood[..., None], wood, sky), canvas.colour[rows])
    canvas.label[rows] = np.where(empty, np.where(is_wood, VEGETATION, SKY), canvas.label[rows])


def cast_shadows(canvas: Canvas, things: list[Thing]) -> np.ndarray:
    """Return how much light reaches each pixel's ground, ``(H, W)``: less in the shadow of things and close to them."""
    light = canvas.light
    shade = np.ones(canvas.nearness.shape)
    dark = 1 - 0.5 * min(1.0, light.sunshine[0] / 0.55)
    shift = tuple(-min(1 / light.sun[1], 4.0) * value for value in (light.sun[0], light.sun[2]))
    for thing in things:
        if not thing.outline or canvas.camera.depth(*thing.place) > _SHADOWS_END:
            continue
        fallen = [(x + shift[0] * thing.height, z + shift[1] * thing.height) for x, z in thing.outline]
        if not light.dusk:
            _darken(canvas, shade, [*thing.outline, *fallen], dark)
        if thing.height < 5:
            _darken(canvas, shade, list(thing.outline), 0.5)
    return shade


def _darken(canvas: Canvas, shade: np.ndarray, places: list[tuple[float, float]], to: float) -> None:
    patch = canvas.cover([(x, 0.0, z) for x, z in _hull(places)], canvas.camera.view)
    if patch is not None:
        part = shade[patch.window]
        part[patch.inside] = np.minimum(part[patch.inside], to)


def _hull(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of the smallest convex polygon around places."""
    ordered = sorted(set(places))
    hull: list[tuple[float, float]] = []
    for way in (ordered, ordered[::-1]):
        start = len(hull)
        for place in way:
            while len(hull) >= start + 2 and _turn(hull[-2], hull[-1], place) <= 0:
                hull.pop()
            hull.append(place)
        hull.pop()
    return hull


def _turn(first: tuple[float, float], second: tuple[float, float], third: tuple[float, float]) -> float:
    return (second[0] - first[0]) * (third[1] - first[1]) - (second[1] - first[1]) * (third[0] - first[0])

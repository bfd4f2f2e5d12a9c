"""The ground with its road, pavements and markings, and the sky above it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np

from .camera import Camera
from .canvas import Canvas, Picture
from .labels import PAVEMENT, ROAD, SKY, TERRAIN, VEGETATION
from .light import Colour, Light, channels
from .numbers import cells, clouds
from .raster import Polygons
from .things import Thing

MARKING, KERB = channels((0.88, 0.88, 0.85)), channels((0.66, 0.65, 0.63))
# Of road, pavement and terrain: their labels, and how much of grain, stains and slabs is seen on them.
_LABELS = np.array((ROAD, PAVEMENT, TERRAIN), np.uint8)
_PATTERNS = np.array(((0.30, 0.15, 0.80), (0.30, 0.0, 0.50), (0.0, 0.22, 0.0)), np.float32)
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
        contrast: Contrast of the textures, 0 to 1.
        salt: Seed of the pattern of stones and stains.
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

    def put(self, canvas: Canvas) -> None:
        """Tell the canvas how near the ground is, up to the horizon."""
        camera = canvas.camera
        is_ground = camera.down * _FARTHEST > camera.elevation
        canvas.nearness[is_ground] = camera.down[is_ground, None] / camera.elevation

    def paint(self, picture: Picture, light: Light, shade: np.ndarray) -> None:
        """Paint the ground where no thing hides it.

        Args:
            picture: What to paint on.
            light: The light of the scene.
            shade: ``(H, W)``, how much of it reaches each pixel's ground, 0 to 1.
        """
        camera = picture.camera
        row, column = np.nonzero((picture.instance == 0) & (picture.nearness > 0))
        depth = (1 / picture.nearness[row, column]).astype(np.float32)
        right = depth * camera.across.astype(np.float32)[column]
        cosine, sine = camera.turn
        across = camera.offset + right * cosine - depth * sine
        along = right * sine + depth * cosine
        wide, long = depth / camera.focal, depth * depth / (camera.focal * camera.elevation)
        label, colour = self._surface(across, along, wide, long)
        received = light.on(np.array([1.0]), np.array([light.sun[1]])).astype(np.float32)
        picture.paint(row, column, colour * received * shade[row, column])
        picture.label[row, column] = label

    def _surface(
        self, across: np.ndarray, along: np.ndarray, wide: np.ndarray, long: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and colours of places; ``wide`` and ``long`` are the metres that a pixel covers there."""
        (left, right), (outer_left, outer_right) = self.road, self.verge
        start, end = self.crossing or (1e9, 1e9)
        in_crossing = (along > start) & (along < end)
        near_crossing = (along > start - self.pavements[1]) & (along < end + self.pavements[1])
        is_road = ((across > left) & (across < right)) | in_crossing
        is_paved = ((across > outer_left) & (across < outer_right)) | near_crossing
        kind = np.where(is_road, 0, np.where(is_paved, 1, 2))

        sharp = self.contrast * np.minimum(0.12 / long, 1.0)
        grain = (cells(across * 6, along * 6, self.salt) - 0.5) * sharp
        stains = self.contrast * (clouds(across / 3.1 + 70, along / 9.7 + 70, self.salt + 5, octaves=2) - 0.5)
        slabs = (cells(across / 0.8, along / 0.8, self.salt + 9) - 0.5) * sharp
        of_grain, of_stains, of_slabs = _PATTERNS.take(kind, axis=1)
        pattern = 1 + of_grain * grain + of_stains * stains + of_slabs * slabs
        colour = np.array((self.asphalt, self.paving, self.grass), np.float32).T.take(kind, axis=1) * pattern
        edge = np.maximum(_line(across - left + 0.09, 0.09, wide), _line(across - right - 0.09, 0.09, wide))
        colour += (KERB - colour) * (edge * ~in_crossing)
        worn = 0.9 - 0.12 * self.contrast - 0.25 * stains
        colour += (MARKING - colour) * (self._markings(across, along, wide, long) * worn)
        return _LABELS[kind], colour

    def _markings(self, across: np.ndarray, along: np.ndarray, wide: np.ndarray, long: np.ndarray) -> np.ndarray:
        """Return how much of each place is white, 0 to 1."""
        left, right = -self.lanes[0] * self.lane, self.lanes[1] * self.lane
        dashes = _line(along - np.floor(along / 6.0) * 6.0 - 1.5, 1.5, long)
        marks = np.zeros(across.shape, np.float32)
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


def paint_sky(picture: Picture, light: Light, salt: int) -> None:
    """Paint sky, clouds, and a far line of trees that hides the horizon, wherever nothing is."""
    camera = picture.camera
    row, column = np.nonzero(picture.nearness == 0)
    height = np.maximum(-camera.down, 0.0).astype(np.float32)[row]
    everywhere = camera.across.astype(np.float32)
    across = everywhere[column]
    rise = height / (height + 0.25)
    haze, zenith = channels(light.haze), channels(light.zenith)
    far = 1 / (height + 0.12)
    drift = clouds(across * far * 0.9 + 50, far * 0.8 + 50, salt, octaves=3)
    cover = np.clip((drift - 0.62 + 0.42 * light.cloudiness) * 3.2, 0.0, 1.0) * np.minimum(height * 6, 1.0)
    sky = haze + (zenith - haze) * rise
    white = haze * 0.85 + channels((0.30, 0.30, 0.33) if light.dusk else (0.16, 0.15, 0.14))
    sky += (white * (1.0 - 0.28 * light.cloudiness * drift) - sky) * (cover * 0.85)
    sun = camera.turned(light.sun)
    if light.dusk and sun[2] > 0.1:
        aside = across - sun[0] / sun[2]
        sky += channels((0.42, 0.22, 0.06)) / (1 + 5 * (aside * aside + height * height * 3))
    line = clouds(everywhere * 7 + 30, np.full_like(everywhere, 3.5), salt + 17, octaves=3)
    is_wood = height < 0.012 + 0.055 * line[column]
    wood = haze * 0.55 + channels((0.05, 0.10, 0.06)) * (0.6 + cells(across * 90, height * 90, salt))
    picture.paint(row, column, np.where(is_wood, wood, sky))
    picture.label[row, column] = np.where(is_wood, VEGETATION, SKY)


def cast_shadows(camera: Camera, light: Light, things: list[Thing]) -> np.ndarray:
    """Return how much light reaches each pixel's ground, ``(H, W)``: less in the shadow of things and close to them."""
    steep = min(1 / light.sun[1], 4.0)
    near = [thing for thing in things if thing.outline and camera.depth(*thing.place) <= _SHADOWS_END]
    tall = [] if light.dusk else near
    low = [thing for thing in near if thing.height < 5]
    shadows = [
        _swept(thing.outline, -steep * thing.height * light.sun[0], -steep * thing.height * light.sun[2])
        for thing in tall
    ]
    areas = [*shadows, *(thing.outline for thing in low)]
    shade = np.ones((camera.height, camera.width), np.float32)
    if not areas:
        return shade
    across, along = np.array(list(chain.from_iterable(areas))).T
    corners = np.stack(camera.see(across, np.zeros(len(across)), along))
    spans = Polygons(corners, np.array([len(area) for area in areas])).spans(camera)
    span, column = spans.pixels()
    lit = np.where(spans.shape < len(shadows), 1 - 0.5 * min(1.0, light.sunshine[0] / 0.55), 0.5)
    shade[spans.row[span], column] = lit[span]  # of several values the last one stays, which is the darkest
    return shade


def _swept(area: tuple[tuple[float, float], ...], across: float, along: float) -> list[tuple[float, float]]:
    """Return the convex area that another one, whose corners turn left, sweeps as it moves so far."""
    leads = [  # which edges look to where it moves; the first one is that to the first corner
        (z - last_z) * across > (x - last_x) * along
        for (last_x, last_z), (x, z) in zip(area[-1:] + area[:-1], area, strict=True)
    ]
    swept = []
    for (x, z), before, after in zip(area, leads, leads[1:] + leads[:1], strict=True):
        moved = x + across, z + along
        if before:
            swept.append(moved)
        if not (before and after):
            swept.append((x, z))
        if after and not before:
            swept.append(moved)
    return swept

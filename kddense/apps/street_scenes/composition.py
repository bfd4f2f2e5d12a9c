"""Composing a scene at random: street, camera, light, and the things on the street."""

from __future__ import annotations

from . import vehicles
from .camera import Camera
from .labels import EGO_VEHICLE
from .light import make_light
from .numbers import Numbers
from .scene import Scene
from .sides import add_ends, add_sides
from .street import Street
from .things import Face, Thing
from .traffic import add_cyclists, add_parked, add_people, add_traffic


def make_scene(numbers: Numbers, width: int, height: int, difficulty: float) -> Scene:
    """Compose a scene at random.

    Args:
        numbers: Random numbers.
        width: Pixels of the picture.
        height: Pixels of the picture.
        difficulty: 0 to 1: the higher, the more crowded, the farther away, the duller and the less visible things are.
    """
    street = _make_street(numbers, difficulty)
    scene = Scene(
        _make_camera(numbers, width, height, street),
        make_light(numbers, difficulty),
        street,
        numbers.integer(0, 10_000),
        difficulty,
    )
    for make in (add_traffic, add_parked, add_people, add_cyclists, add_sides, add_ends):
        make(numbers, scene)
    if numbers.chance(0.35):
        scene.things.append(_bonnet(numbers, scene.camera))
    return scene


def _make_street(numbers: Numbers, difficulty: float) -> Street:
    shade = numbers.uniform(0.30, 0.44)
    stone = numbers.uniform(0.52, 0.66)
    start = numbers.uniform(16.0, 55.0)
    has_crossing = numbers.chance(0.45)
    crossing = (start, start + numbers.uniform(7.0, 11.0)) if has_crossing else None
    zebra = start - 5.5 if has_crossing else numbers.uniform(12.0, 40.0)
    grass = numbers.choice(((0.33, 0.42, 0.20), (0.42, 0.44, 0.24), (0.46, 0.40, 0.28)))
    return Street(
        numbers.uniform(3.0, 3.6),
        (numbers.integer(1, 2), numbers.integer(1, 2)),
        (numbers.choice((0.0, 2.2)), numbers.choice((0.0, 2.2))),
        (numbers.uniform(2.0, 4.5), numbers.uniform(2.0, 4.5)),
        crossing,
        zebra if numbers.chance(0.5) else None,
        numbers.chance(0.5),
        (shade, shade, 1.04 * shade),
        (1.03 * stone, stone, 0.95 * stone),
        grass,
        0.35 + 0.65 * difficulty,
        numbers.integer(0, 10_000),
    )


def _make_camera(numbers: Numbers, width: int, height: int, street: Street) -> Camera:
    half = numbers.uniform(-0.045, 0.045)  # tangent of half the angle
    turn = ((1 - half * half) / (1 + half * half), 2 * half / (1 + half * half))
    lane = numbers.integer(0, street.lanes[1] - 1)
    offset = (lane + 0.5) * street.lane + numbers.uniform(-0.4, 0.4)
    focal = numbers.uniform(0.85, 1.15) * width
    return Camera(width, height, focal, numbers.uniform(0.38, 0.5) * height, numbers.uniform(1.25, 1.75), offset, turn)


def _bonnet(numbers: Numbers, camera: Camera) -> Thing:
    """The bonnet of the car that carries the camera."""
    colour = vehicles.paint(numbers, 1.0)
    high = camera.elevation - numbers.uniform(0.42, 0.5) * camera.height * 1.3 / camera.focal
    cosine, sine = camera.turn

    def ahead(right: float, along: float) -> tuple[float, float, float]:
        return camera.offset + right * cosine - along * sine, high, right * sine + along * cosine

    outline = ((-0.8, 0.75), (0.8, 0.75), (0.72, 1.35), (0.45, 1.55), (-0.45, 1.55), (-0.72, 1.35))
    corners = tuple(ahead(*corner) for corner in outline)
    return Thing(EGO_VEHICLE, (Face(corners, colour),), height=high, place=(camera.offset, 1.0))

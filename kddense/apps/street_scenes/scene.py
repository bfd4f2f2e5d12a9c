"""Composing a scene: who stands and drives where."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import people, roadside, vehicles
from .buildings import house
from .camera import Camera
from .labels import EGO_VEHICLE
from .light import Light, make_light, unit
from .numbers import Numbers
from .street import Street
from .things import Face, Thing

AHEAD, TOWARDS = (0.0, 1.0), (0.0, -1.0)
_END, _TRAFFIC_END = 115.0, 80.0


@dataclass
class Scene:
    """All that a picture is made from.

    Attributes:
        camera: Who looks.
        light: Time of day and weather.
        street: The ground.
        things: What stands on it; those of a counted class are one instance each.
        salt: Which clouds.
        difficulty: 0 to 1.
    """

    camera: Camera
    light: Light
    street: Street
    salt: int
    difficulty: float
    things: list[Thing] = field(default_factory=list)


def make_scene(numbers: Numbers, width: int, height: int, difficulty: float) -> Scene:
    """Draw a scene.

    Args:
        numbers: Where chance comes from.
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
    for make in (_add_traffic, _add_parked, _add_people, _add_cyclists, _add_side, _add_ends):
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


def _add_traffic(numbers: Numbers, scene: Scene) -> None:
    """Drive vehicles along every lane, and now and then across."""
    street, difficulty = scene.street, scene.difficulty
    ego = int(scene.camera.offset // street.lane)
    for index in range(-street.lanes[0], street.lanes[1]):
        forward = AHEAD if index >= 0 else TOWARDS
        along = numbers.uniform(9.0, 22.0) if index == ego else numbers.uniform(3.0, 16.0)
        while along < _TRAFFIC_END:
            if not numbers.chance(0.45 + 0.25 * difficulty):
                along += numbers.uniform(8.0, 26.0)
                continue
            model = _vehicle(numbers, difficulty)
            long = model.outline[2][1] * 2
            place = (index + 0.5) * street.lane + numbers.uniform(-0.25, 0.25)
            scene.things.append(model.at(place, along + long / 2, forward))
            along += long + numbers.uniform(4.0, 24.0 - 12.0 * difficulty)
    if street.crossing is not None and numbers.chance(0.6):
        start, end = street.crossing
        sideways, lane = numbers.choice((-1.0, 1.0)), numbers.uniform(0.25, 0.75)
        model = _vehicle(numbers, difficulty)
        across = numbers.uniform(-14.0, 14.0)
        if _is_free(scene, across, start + lane * (end - start), 6.0):
            scene.things.append(model.at(across, start + lane * (end - start), (sideways, 0.0)))


def _vehicle(numbers: Numbers, difficulty: float) -> Thing:
    kind = numbers.uniform()
    for share, make in ((0.74, vehicles.car), (0.86, vehicles.truck), (0.95, vehicles.bus)):
        if kind < share:
            return make(numbers, difficulty)
    return vehicles.tram(numbers, difficulty)


def _is_free(scene: Scene, across: float, along: float, room: float) -> bool:
    return all(abs(thing.place[0] - across) > room or abs(thing.place[1] - along) > room + 2 for thing in scene.things)


def _add_parked(numbers: Numbers, scene: Scene) -> None:
    """Park cars along the kerbs; and tip a corner of each out of line."""
    street = scene.street
    for side, strip, edge in ((-1, street.parking[0], street.road[0]), (1, street.parking[1], street.road[1])):
        if not strip:
            continue
        along = numbers.uniform(2.0, 10.0)
        while along < 60:
            if numbers.chance(0.35 + 0.5 * scene.difficulty) and not _in_crossing(street, along, 6.0):
                crooked = unit((numbers.uniform(-0.06, 0.06), 0.0, 1.0 if side > 0 else -1.0))
                model = vehicles.car(numbers, scene.difficulty)
                scene.things.append(model.at(edge - side * 1.05, along, (crooked[0], crooked[2])))
            along += numbers.uniform(5.4, 7.5)


def _in_crossing(street: Street, along: float, margin: float) -> bool:
    return street.crossing is not None and street.crossing[0] - margin < along < street.crossing[1] + margin


def _add_people(numbers: Numbers, scene: Scene) -> None:
    """Let people walk on the pavements, some of them in groups, and across the street."""
    street, difficulty = scene.street, scene.difficulty
    for _ in range(numbers.integer(2, 4 + round(9 * difficulty))):
        side = numbers.integer(0, 1)
        inner, outer = street.road[side], street.verge[side]
        across = inner + (outer - inner) * numbers.uniform(0.15, 0.9)
        along = numbers.uniform(6.0, 26.0 + 34.0 * difficulty)
        for _ in range(1 if numbers.chance(0.65) else numbers.integer(2, 3)):
            _stand(numbers, scene, across, along, people.person(numbers, difficulty))
            across += numbers.uniform(-0.7, 0.7)
            along += numbers.uniform(-0.6, 0.6)
    crossers = numbers.integer(1, 3) if street.zebra is not None or numbers.chance(0.3) else 0
    where = street.zebra + 1.5 if street.zebra is not None else numbers.uniform(12.0, 35.0)
    for _ in range(crossers):
        across, along = numbers.uniform(*street.road), where + numbers.uniform(-1.2, 1.2)
        if _is_free(scene, across, along, 2.2):
            _stand(numbers, scene, across, along, people.person(numbers, difficulty))


def _stand(numbers: Numbers, scene: Scene, across: float, along: float, figure: Thing) -> None:
    """Put a flat figure down so that it shows the camera its broad side, left or right."""
    towards = unit((across - scene.camera.offset, 0.0, along))
    mirrored = -1.0 if numbers.chance(0.5) else 1.0
    scene.things.append(figure.at(across, along, (mirrored * towards[0], mirrored * towards[2])))


def _add_cyclists(numbers: Numbers, scene: Scene) -> None:
    """Let two-wheelers ride at the kerb and across, and lean some against it."""
    street, difficulty = scene.street, scene.difficulty
    for _ in range(numbers.integer(0, 2 + round(3 * difficulty))):
        make = vehicles.bicycle if numbers.chance(0.6) else vehicles.motorcycle
        crosses = numbers.chance(0.4)
        along = numbers.uniform(8.0, 24.0 + 26.0 * difficulty)
        if crosses:
            across = numbers.uniform(street.road[0] + 1, street.road[1] - 1)
            forward = (numbers.choice((-1.0, 1.0)), 0.0)
        else:
            across = street.road[1] - street.parking[1] - 0.5
            forward = AHEAD
            if numbers.chance(0.4):
                across, forward = street.road[0] + street.parking[0] + 0.5, TOWARDS
        if not _is_free(scene, across, along, 1.8):
            continue
        scene.things.append(make(numbers, difficulty).at(across, along, forward))
        seat = people.rider(numbers, difficulty, sideways=crosses)
        # The figure's right is the camera's right, and its front the vehicle's.
        facing = (0.0, 1.0) if not crosses or forward[0] > 0 else (0.0, -1.0)
        scene.things.append(seat.at(across, along - 0.04, facing))
    for _ in range(numbers.integer(0, 1 + round(3 * difficulty))):
        side = numbers.integer(0, 1)
        across = street.verge[side] * 0.9 + street.road[side] * 0.1
        slant = unit((numbers.choice((-1.0, 1.0)), 0.0, numbers.uniform(-0.5, 0.5)))
        model = (vehicles.bicycle if numbers.chance(0.75) else vehicles.motorcycle)(numbers, difficulty)
        scene.things.append(model.at(across, numbers.uniform(7.0, 30.0), (slant[0], slant[2])))


def _add_side(numbers: Numbers, scene: Scene) -> None:
    """Line both sides with houses or green, and with what stands on the pavement."""
    season = numbers.choice(roadside.AUTUMN if numbers.chance(0.15) else roadside.GREENS)
    floors = numbers.choice(((1, 2), (2, 4), (3, 6), (4, 9)))
    for index, side in ((0, -1), (1, 1)):
        along = -4.0
        while along < _END:
            end = along + numbers.uniform(9.0, 22.0)
            if scene.street.crossing is not None:
                start, stop = scene.street.crossing
                margin = scene.street.pavements[1]
                if along < stop + margin and end > start - margin:
                    end = max(start - margin, along)
                    if end - along > 4:
                        _add_plot(numbers, scene, index, side, along, end, floors, season)
                    along = stop + margin
                    continue
            _add_plot(numbers, scene, index, side, along, end, floors, season)
            along = end + numbers.choice((0.0, 0.0, 0.0, 3.0))
        _add_furniture(numbers, scene, index, side, season)


def _add_plot(
    numbers: Numbers, scene: Scene, index: int, side: int, start: float, end: float, floors: tuple[int, int],
    season: tuple[float, float, float],
) -> None:  # fmt: skip
    """Fill a plot with a house, a garden or a bit of park."""
    edge = scene.street.verge[index]
    kind = numbers.uniform()
    if kind < 0.68:
        front = edge + side * numbers.choice((0.0, 0.0, 0.2, 1.5))
        scene.things.append(house(numbers, front, side, start, end, floors, 0.45 + 0.55 * scene.difficulty))
        return
    border = numbers.uniform()
    place = edge + side * 0.5
    if border < 0.3:
        scene.things += roadside.hedge(numbers, place, start, end, season)
    elif border < 0.55:
        scene.things += roadside.wall(numbers, place, start, end)
    elif border < 0.85:
        scene.things += roadside.fence(numbers, place, start, end)
    for _ in range(numbers.integer(2, 4)):
        make = roadside.tree if numbers.chance(0.75) else roadside.bush
        across, along = edge + side * numbers.uniform(2.5, 9.0), numbers.uniform(start, end)
        scene.things += [part.at(across, along) for part in make(numbers, season)]
    if kind > 0.8:
        far = edge + side * 12.0
        scene.things.append(house(numbers, far, side, start, end, (1, 3), 0.45 + 0.55 * scene.difficulty))


def _add_furniture(numbers: Numbers, scene: Scene, index: int, side: int, season: tuple[float, float, float]) -> None:
    """Put lamps, signs, lights and trees at the kerb."""
    street = scene.street
    kerb = street.road[index] + side * 0.5
    spacing, along = numbers.uniform(18.0, 30.0), numbers.uniform(5.0, 20.0)
    has_trees = numbers.chance(0.4)
    while along < 75:
        if not _in_crossing(street, along, 1.0):
            scene.things += [part.at(kerb, along) for part in roadside.lamp_post(numbers, -side)]
            if has_trees and not _in_crossing(street, along + spacing / 2, 1.0):
                parts = roadside.tree(numbers, season)
                scene.things += [part.at(kerb + side * 0.4, along + spacing / 2) for part in parts]
        along += spacing
    for _ in range(numbers.integer(1, 2 + round(2 * scene.difficulty))):
        along = numbers.uniform(7.0, 45.0)
        if not _in_crossing(street, along, 0.5):
            scene.things += [part.at(kerb, along) for part in roadside.traffic_sign(numbers)]
    if street.crossing is not None and numbers.chance(0.7):
        place = street.crossing[0] - 0.8 if side > 0 else street.crossing[1] + 0.8
        scene.things += [part.at(kerb, place) for part in roadside.traffic_light(numbers)]


def _add_ends(numbers: Numbers, scene: Scene) -> None:
    """Close some streets with a house at their end."""
    if numbers.chance(0.4):
        left = scene.street.road[0] - 6
        end = house(numbers, left, 1, _END + 12, _END + 24, (3, 6), 0.45 + 0.55 * scene.difficulty)
        scene.things.append(end)


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

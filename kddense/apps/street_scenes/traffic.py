"""Vehicles, people and two-wheelers of a scene."""

from __future__ import annotations

from . import people, vehicles
from .light import unit
from .numbers import Numbers
from .scene import Scene
from .things import Thing

AHEAD, TOWARDS = (0.0, 1.0), (0.0, -1.0)
END = 80.0  # metres ahead, beyond which nobody drives


def add_traffic(numbers: Numbers, scene: Scene) -> None:
    """Add vehicles to every lane, and sometimes one on the cross street."""
    street, difficulty = scene.street, scene.difficulty
    ego = int(scene.camera.offset // street.lane)
    for index in range(-street.lanes[0], street.lanes[1]):
        forward = AHEAD if index >= 0 else TOWARDS
        along = numbers.uniform(9.0, 22.0) if index == ego else numbers.uniform(3.0, 16.0)
        while along < END:
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
        if scene.is_free(across, start + lane * (end - start), 6.0):
            scene.things.append(model.at(across, start + lane * (end - start), (sideways, 0.0)))


def _vehicle(numbers: Numbers, difficulty: float) -> Thing:
    kind = numbers.uniform()
    for share, make in ((0.74, vehicles.car), (0.86, vehicles.truck), (0.95, vehicles.bus)):
        if kind < share:
            return make(numbers, difficulty)
    return vehicles.tram(numbers, difficulty)


def add_parked(numbers: Numbers, scene: Scene) -> None:
    """Add parked cars along the kerbs, none quite in line."""
    street = scene.street
    for side, strip, edge in ((-1, street.parking[0], street.road[0]), (1, street.parking[1], street.road[1])):
        if not strip:
            continue
        along = numbers.uniform(2.0, 10.0)
        while along < 60:
            if numbers.chance(0.35 + 0.5 * scene.difficulty) and not scene.in_crossing(along, 6.0):
                crooked = unit((numbers.uniform(-0.06, 0.06), 0.0, 1.0 if side > 0 else -1.0))
                model = vehicles.car(numbers, scene.difficulty)
                scene.things.append(model.at(edge - side * 1.05, along, (crooked[0], crooked[2])))
            along += numbers.uniform(5.4, 7.5)


def add_people(numbers: Numbers, scene: Scene) -> None:
    """Add people on the pavements, some in groups, and crossing the street."""
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
        if scene.is_free(across, along, 2.2):
            _stand(numbers, scene, across, along, people.person(numbers, difficulty))


def _stand(numbers: Numbers, scene: Scene, across: float, along: float, figure: Thing) -> None:
    """Put a flat figure down so that it shows the camera its broad side, left or right."""
    towards = unit((across - scene.camera.offset, 0.0, along))
    mirrored = -1.0 if numbers.chance(0.5) else 1.0
    scene.things.append(figure.at(across, along, (mirrored * towards[0], mirrored * towards[2])))


def add_cyclists(numbers: Numbers, scene: Scene) -> None:
    """Add two-wheelers with riders, and some parked on the pavement."""
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
        if not scene.is_free(across, along, 1.8):
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

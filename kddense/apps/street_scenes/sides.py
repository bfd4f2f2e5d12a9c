"""What stands along the street: houses and green, and lamps, signs and trees at the kerb."""

from __future__ import annotations

from . import roadside
from .buildings import house
from .numbers import Numbers
from .scene import Scene

END = 115.0  # metres ahead, beyond which nothing stands


def add_sides(numbers: Numbers, scene: Scene) -> None:
    """Add houses or green on both sides, and what stands on the pavement."""
    season = numbers.choice(roadside.AUTUMN if numbers.chance(0.15) else roadside.GREENS)
    floors = numbers.choice(((1, 2), (2, 4), (3, 6), (4, 9)))
    for index, side in ((0, -1), (1, 1)):
        along = -4.0
        while along < END:
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
    """Fill a plot with a house, a garden or a park."""
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
    """Add lamps, signs, lights and trees at the kerb."""
    street = scene.street
    kerb = street.road[index] + side * 0.5
    spacing, along = numbers.uniform(18.0, 30.0), numbers.uniform(5.0, 20.0)
    has_trees = numbers.chance(0.4)
    while along < 75:
        if not scene.in_crossing(along, 1.0):
            scene.things += [part.at(kerb, along) for part in roadside.lamp_post(numbers, -side)]
            if has_trees and not scene.in_crossing(along + spacing / 2, 1.0):
                parts = roadside.tree(numbers, season)
                scene.things += [part.at(kerb + side * 0.4, along + spacing / 2) for part in parts]
        along += spacing
    for _ in range(numbers.integer(1, 2 + round(2 * scene.difficulty))):
        along = numbers.uniform(7.0, 45.0)
        if not scene.in_crossing(along, 0.5):
            scene.things += [part.at(kerb, along) for part in roadside.traffic_sign(numbers)]
    if street.crossing is not None and numbers.chance(0.7):
        place = street.crossing[0] - 0.8 if side > 0 else street.crossing[1] + 0.8
        scene.things += [part.at(kerb, place) for part in roadside.traffic_light(numbers)]


def add_ends(numbers: Numbers, scene: Scene) -> None:
    """Add a house at the end of some streets."""
    if numbers.chance(0.4):
        left = scene.street.road[0] - 6
        end = house(numbers, left, 1, END + 12, END + 24, (3, 6), 0.45 + 0.55 * scene.difficulty)
        scene.things.append(end)

"""A scene: camera, light, street, and the things on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .camera import Camera
from .light import Light
from .street import Street
from .things import Thing


@dataclass
class Scene:
    """A scene.

    Attributes:
        camera: The camera.
        light: Light by time of day and weather.
        street: The ground and how it is divided.
        things: What stands on it; those of a counted class are one instance each.
        salt: Seed of the clouds' pattern.
        difficulty: 0 to 1.
    """

    camera: Camera
    light: Light
    street: Street
    salt: int
    difficulty: float
    things: list[Thing] = field(default_factory=list)

    def is_free(self, across: float, along: float, room: float) -> bool:
        """Tell whether nothing stands within ``room`` metres of a place, and 2 m more along the street."""
        return all(
            abs(thing.place[0] - across) > room or abs(thing.place[1] - along) > room + 2 for thing in self.things
        )

    def in_crossing(self, along: float, margin: float) -> bool:
        """Tell whether a place along the street lies in the street that crosses it, or within ``margin`` metres of it."""
        crossing = self.street.crossing
        return crossing is not None and crossing[0] - margin < along < crossing[1] + margin

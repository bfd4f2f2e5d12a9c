"""Cars, trucks, buses, trams and two-wheelers, around the origin and looking ahead."""

from __future__ import annotations

import functools

from .labels import BICYCLE, BUS, CAR, MOTORCYCLE, TRAIN, TRUCK
from .light import Colour
from .numbers import Numbers
from .things import Face, Thing, block, board, disc, pane, prism, rectangle

GLASS = (0.16, 0.19, 0.23)
RUBBER = (0.06, 0.06, 0.07)
CHROME = (0.55, 0.56, 0.58)
FRONT_LAMP, REAR_LAMP = (0.93, 0.93, 0.86), (0.66, 0.08, 0.07)
SHINE_FRONT, SHINE_REAR = (0.95, 0.90, 0.70), (0.75, 0.05, 0.04)
PLATE = (0.88, 0.88, 0.82)
PAINTS: tuple[Colour, ...] = (
    (0.82, 0.83, 0.84), (0.62, 0.64, 0.66), (0.13, 0.14, 0.16), (0.28, 0.30, 0.33), (0.60, 0.09, 0.10),
    (0.12, 0.25, 0.52), (0.10, 0.33, 0.30), (0.76, 0.60, 0.16), (0.44, 0.30, 0.22), (0.35, 0.50, 0.66),
)  # fmt: skip
# Length, width and height, and how far the rear window slants and the bonnet reaches; in metres.
CARS = {
    'hatchback': (4.0, 1.76, 1.48, 0.30, 1.0),
    'saloon': (4.6, 1.82, 1.43, 0.95, 1.15),
    'estate': (4.6, 1.82, 1.50, 0.15, 1.15),
    'van': (4.8, 1.94, 1.95, 0.06, 0.85),
}
WHITE, GREY = (1.0, 1.0, 1.0), (0.55, 0.55, 0.55)  # in place of a car's paint, and of what is in its shade


def paint(numbers: Numbers, difficulty: float) -> Colour:
    """Return a lacquer: bright in easy scenes; in hard ones grey is frequent, as on real roads."""
    red, green, blue = numbers.choice(PAINTS)
    grey = (red + green + blue) / 3
    shade = numbers.uniform(0.85, 1.1)
    vivid = 1.25 - numbers.uniform(0.0, 0.9) * difficulty
    return _bounded(*((grey + (value - grey) * vivid) * shade for value in (red, green, blue)))


def _bounded(red: float, green: float, blue: float) -> Colour:
    return min(max(red, 0.02), 1.0), min(max(green, 0.02), 1.0), min(max(blue, 0.02), 1.0)


def car(numbers: Numbers, difficulty: float) -> Thing:
    """A hatchback, saloon, estate or van."""
    style = numbers.choice(tuple(CARS))
    painted, others = _car_parts(style)
    red, green, blue = paint(numbers, difficulty)
    lacquered = [face._replace(colour=(red * shade, green * shade, blue * shade)) for face, shade in painted]
    long, wide, tall, _, _ = CARS[style]
    return Thing(CAR, (*lacquered, *others), height=tall, outline=rectangle(wide, long))


@functools.cache
def _car_parts(style: str) -> tuple[list[tuple[Face, float]], list[Face]]:
    """Return the faces that are painted, each with how much of the paint's colour it shows, and the others."""
    long, wide, tall, tail, bonnet = CARS[style]
    back, front = -long / 2, long / 2
    middle = (0.0, 0.7, 0.0)
    profile = [
        (back, 0.28), (front, 0.28), (front, 0.62), (front - 0.12, 0.78), (front - bonnet, 0.95),
        (back + 0.1, 0.98), (back, 0.88),
    ]  # fmt: skip
    walls, windows = _cabin(back + tail * 0.35, back + tail, front - bonnet - 0.55, front - bonnet, wide, tall)
    sides = prism(profile, wide, [WHITE, GREY, WHITE], middle)
    painted = [(face, face.colour[0]) for face in (*sides, *walls)]
    return painted, [
        *windows,
        *_wheels(wide, (back + 0.8, front - 0.85), 0.32),
        *_lamps(wide, 0.60, 0.78, back, front, middle),
    ]


def _cabin(
    back: float, roof_back: float, roof_front: float, front: float, wide: float, tall: float
) -> tuple[list[Face], list[Face]]:
    """A greenhouse that narrows towards its roof: its walls, and its windows."""
    low, narrow, wide = 0.93, wide / 2 - 0.17, wide / 2 - 0.02
    middle = (0.0, (low + tall) / 2, (back + front) / 2)
    rear_left, rear_right = (-wide, low, back), (wide, low, back)
    front_left, front_right = (-wide, low, front), (wide, low, front)
    top_rear_left, top_rear_right = (-narrow, tall, roof_back), (narrow, tall, roof_back)
    top_front_left, top_front_right = (-narrow, tall, roof_front), (narrow, tall, roof_front)
    walls = [
        (rear_left, rear_right, top_rear_right, top_rear_left),
        (front_left, front_right, top_front_right, top_front_left),
        (rear_left, front_left, top_front_left, top_rear_left),
        (rear_right, front_right, top_front_right, top_rear_right),
    ]
    roof = (top_rear_left, top_rear_right, top_front_right, top_front_left)
    windows = [pane(_inner(corners, 0.84), GLASS, middle, is_detail=True) for corners in walls]
    return [Face(corners, WHITE, middle) for corners in (*walls, roof)], windows


def _inner(corners: tuple[tuple[float, float, float], ...], share: float) -> list[tuple[float, float, float]]:
    """Return the same polygon, smaller around its middle."""
    count = len(corners)
    middle = [0.0, 0.0, 0.0]
    for corner in corners:
        for axis in range(3):
            middle[axis] += corner[axis] / count
    x, y, z = middle
    return [(x + share * (a - x), y + share * (b - y), z + share * (c - z)) for a, b, c in corners]


def _wheels(wide: float, places: tuple[float, ...], radius: float) -> list[Face]:
    faces = []
    for side in (-1, 1):
        inner = (0.0, radius, 0.0)
        for place in places:
            x = side * (wide / 2 + 0.02)
            faces.append(disc((x, radius, place), radius, RUBBER, 'right', behind=inner, is_detail=True))
            hub = disc((x + side * 0.02, radius, place), radius * 0.58, CHROME, 'right', behind=inner, is_detail=True)
            faces.append(hub)
    for end in (min(places) - radius, max(places) + radius):  # tyres, seen from behind and ahead
        for left in (-wide / 2, wide / 2 - 0.22):
            faces.append(board(left, left + 0.22, 0.0, 0.34, RUBBER, end))
    return faces


def _lamps(
    wide: float, low: float, high: float, back: float, front: float, middle: tuple[float, float, float]
) -> list[Face]:
    faces = []
    for x in (-wide / 2 + 0.05, wide / 2 - 0.38):
        rear = ((x, low, back), (x + 0.33, low, back), (x + 0.33, high, back), (x, high, back))
        faces.append(pane(rear, REAR_LAMP, middle, SHINE_REAR))
        ahead = ((x, low - 0.08, front), (x + 0.33, low - 0.08, front), (x + 0.33, high - 0.16, front),
                 (x, high - 0.16, front))  # fmt: skip
        faces.append(pane(ahead, FRONT_LAMP, middle, SHINE_FRONT))
    for end in (back, front):
        plate = ((-0.26, 0.40, end), (0.26, 0.40, end), (0.26, 0.52, end), (-0.26, 0.52, end))
        faces.append(pane(plate, PLATE, middle, is_detail=True))
    return faces


def truck(numbers: Numbers, difficulty: float) -> Thing:
    """A lorry: a cab before a box of cargo."""
    long, wide, tall = numbers.uniform(6.5, 9.5), 2.45, numbers.uniform(3.0, 3.8)
    colour = paint(numbers, difficulty)
    shade = numbers.uniform(0.55, 0.9)
    cargo = numbers.choice(((shade, shade, shade), paint(numbers, difficulty), (0.35, 0.42, 0.30)))
    back, front, cab = -long / 2, long / 2, long / 2 - 1.9
    faces = block(-wide / 2, wide / 2, 0.95, tall, back, cab - 0.15, cargo)
    faces += block(-0.45, 0.45, 0.5, 0.95, back + 0.1, cab, (0.12, 0.12, 0.13))
    middle = (0.0, 1.4, cab + 0.9)
    profile = [(cab, 0.45), (front, 0.45), (front, 1.5), (front - 0.35, 2.55), (cab, 2.6)]
    faces += prism(profile, wide - 0.1, [colour, (0.1, 0.1, 0.1), colour], middle)
    half = wide / 2 - 0.2
    screen = ((-half, 1.62, front - 0.04), (half, 1.62, front - 0.04), (half, 2.4, front - 0.30),
              (-half, 2.4, front - 0.30))  # fmt: skip
    faces.append(pane(screen, GLASS, middle))
    for x in (-wide / 2 + 0.05, wide / 2 - 0.05):
        window = ((x, 1.55, cab + 0.5), (x, 1.55, front - 0.35), (x, 2.3, front - 0.5), (x, 2.3, cab + 0.5))
        faces.append(pane(window, GLASS, middle))
    faces += _wheels(wide - 0.1, (back + 1.2, back + 2.3, front - 1.0), 0.5)
    faces += _lamps(wide - 0.1, 0.72, 0.92, back, front, middle)
    return Thing(TRUCK, tuple(faces), height=tall, outline=rectangle(wide, long))


def bus(numbers: Numbers, difficulty: float) -> Thing:
    """A city bus."""
    colour = numbers.choice(((0.78, 0.62, 0.12), (0.70, 0.13, 0.12), (0.16, 0.36, 0.62), (0.80, 0.80, 0.78)))
    long = numbers.uniform(10.5, 12.5)
    faces = _coach(long, 2.55, 3.0, 0.3, colour, windows=8)
    faces += _wheels(2.55, (-long / 2 + 2.8, long / 2 - 2.4), 0.48)
    faces += _lamps(2.55, 0.7, 0.95, -long / 2, long / 2, (0.0, 1.5, 0.0))
    return Thing(BUS, tuple(faces), height=3.0, outline=rectangle(2.55, long))


def tram(numbers: Numbers, difficulty: float) -> Thing:
    """A tram, which Cityscapes counts among the trains."""
    colour = numbers.choice(((0.86, 0.82, 0.66), (0.15, 0.42, 0.40), (0.72, 0.20, 0.16)))
    long = numbers.uniform(20.0, 28.0)
    faces = _coach(long, 2.4, 3.4, 0.15, colour, windows=14)
    faces += block(-0.5, 0.5, 3.4, 3.75, -2.0, 2.0, (0.4, 0.4, 0.42))
    faces += _lamps(2.4, 0.6, 0.8, -long / 2, long / 2, (0.0, 1.5, 0.0))
    return Thing(TRAIN, tuple(faces), height=3.7, outline=rectangle(2.4, long))


def _coach(long: float, wide: float, tall: float, low: float, colour: Colour, windows: int) -> list[Face]:
    back, front = -long / 2, long / 2
    middle = (0.0, tall / 2, 0.0)
    roof = (0.72, 0.73, 0.74)
    profile = [(back, low), (front, low), (front, tall - 0.35), (front - 0.2, tall), (back + 0.1, tall),
               (back, tall - 0.2)]  # fmt: skip
    faces = prism(profile, wide, [colour, (0.1, 0.1, 0.1), colour, colour, roof, colour], middle)
    inside = (0.62, 0.55, 0.38)
    step = (long - 0.8) / windows
    for x in (-wide / 2, wide / 2):
        skirt = ((x, low, back), (x, low, front), (x, low + 0.3, front), (x, low + 0.3, back))
        faces.append(pane(skirt, (0.14, 0.14, 0.15), middle, is_detail=True))
        for index in range(windows):
            start = back + 0.4 + index * step
            end = start + step - 0.14
            window = ((x, 1.35, start), (x, 1.35, end), (x, tall - 0.55, end), (x, tall - 0.55, start))
            faces.append(pane(window, GLASS, middle, inside, is_detail=True))
    half = wide / 2 - 0.15
    for end, sill in ((back, 1.7), (front, 1.25)):
        screen = ((-half, sill, end), (half, sill, end), (half, tall - 0.55, end), (-half, tall - 0.55, end))
        faces.append(pane(screen, GLASS, middle))
    sign = (
        (-0.7, tall - 0.48, front),
        (0.7, tall - 0.48, front),
        (0.7, tall - 0.36, front),
        (-0.7, tall - 0.36, front),
    )
    faces.append(pane(sign, (0.9, 0.6, 0.1), middle, (0.8, 0.5, 0.1), is_detail=True))
    return faces


def motorcycle(numbers: Numbers, difficulty: float) -> Thing:
    """A motorcycle, without its rider."""
    colour = paint(numbers, difficulty)
    middle = (0.0, 0.6, 0.0)
    profile = [(-0.75, 0.75), (-0.3, 0.35), (0.45, 0.35), (0.55, 0.85), (0.2, 0.98), (-0.7, 0.9)]
    faces = prism(profile, 0.3, [colour, (0.2, 0.2, 0.2), (0.2, 0.2, 0.2), colour, colour, (0.1, 0.1, 0.1)], middle)
    faces += _two_wheels(0.75, 0.32, 0.16)
    faces += block(-0.4, 0.4, 0.98, 1.05, 0.38, 0.46, (0.2, 0.2, 0.2))
    faces.append(Face(((-0.12, 0.75, 0.62), (0.12, 0.75, 0.62), (0.12, 0.95, 0.6), (-0.12, 0.95, 0.6)), FRONT_LAMP,
                      middle, shine=SHINE_FRONT))  # fmt: skip
    faces.append(Face(((-0.1, 0.72, -0.78), (0.1, 0.72, -0.78), (0.1, 0.82, -0.78), (-0.1, 0.82, -0.78)), REAR_LAMP,
                      middle, shine=SHINE_REAR))  # fmt: skip
    return Thing(MOTORCYCLE, tuple(faces), height=1.05, outline=rectangle(0.5, 2.0))


def bicycle(numbers: Numbers, difficulty: float) -> Thing:
    """A bicycle, without its rider."""
    colour = paint(numbers, difficulty)
    faces = [*_two_wheels(0.52, 0.34, 0.07)]
    for start, end in (
        ((-0.52, 0.34), (-0.18, 0.88)), ((-0.18, 0.82), (0.38, 0.78)), ((-0.15, 0.32), (0.38, 0.74)),
        ((-0.15, 0.30), (-0.2, 0.9)), ((0.52, 0.34), (0.36, 0.98)), ((-0.52, 0.34), (-0.15, 0.30)),
    ):  # fmt: skip
        faces.append(_tube(start, end, colour))
    faces += block(-0.09, 0.09, 0.88, 0.95, -0.3, -0.08, (0.1, 0.1, 0.1))
    faces += block(-0.28, 0.28, 0.97, 1.02, 0.33, 0.38, (0.15, 0.15, 0.15))
    return Thing(BICYCLE, tuple(faces), height=1.05, outline=rectangle(0.5, 1.75))


@functools.cache
def _two_wheels(place: float, radius: float, thick: float) -> list[Face]:
    """Two wheels in line: discs from the side, narrow boards from behind and ahead."""
    faces = []
    for ahead in (-place, place):
        faces.append(disc((0.0, radius, ahead), radius, RUBBER, 'right'))
        for side in (-1, 1):
            faces.append(
                disc((side * 0.012, radius, ahead), radius * 0.78, (0.42, 0.43, 0.44), 'right', is_detail=True)
            )
        faces.append(board(-thick / 2, thick / 2, 0.0, 2 * radius, RUBBER, ahead))
    return faces


def _tube(start: tuple[float, float], end: tuple[float, float], colour: Colour) -> Face:
    (z, y), (next_z, next_y) = start, end
    thick = 0.035
    steep = abs(next_y - y) > abs(next_z - z)
    shift_z, shift_y = (thick, 0.0) if steep else (0.0, thick)
    return Face(
        (
            (0.02, y - shift_y, z - shift_z), (0.02, next_y - shift_y, next_z - shift_z),
            (0.02, next_y + shift_y, next_z + shift_z), (0.02, y + shift_y, z + shift_z),
        ),
        colour,
    )  # fmt: skip

"""Taking the picture: from a scene to pixels, labels, instances and depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, Picture
from .composition import make_scene
from .labels import CATEGORIES, train_ids
from .light import channels
from .numbers import Numbers
from .scene import Scene
from .street import cast_shadows, paint_sky
from .surfaces import draw
from .things import Thing

FARTHEST = 65.535  # metres: what 16 bits of millimetres hold
LEAST_PIXELS = 20


@dataclass(frozen=True)
class Frame:
    """One picture with its ground truth; all of height H and width W.

    Attributes:
        image: ``(H, W, 3)``, uint8, red, green, blue.
        label_ids: ``(H, W)``, uint8, Cityscapes' label ids.
        instance_ids: ``(H, W)``, uint16, as in Cityscapes: ``label id · 1000 + number`` for each thing of a counted
            class, and the bare label id elsewhere; also where a thing of such a class shows fewer pixels
            than asked for, :data:`LEAST_PIXELS` by default, which Cityscapes calls a group.
        depth: ``(H, W)``, uint16, millimetres along the optical axis; 0 for the sky and beyond :data:`FARTHEST` metres.
    """

    image: np.ndarray
    label_ids: np.ndarray
    instance_ids: np.ndarray
    depth: np.ndarray

    @property
    def train_ids(self) -> np.ndarray:
        """``(H, W)``, uint8, Cityscapes' train ids: 0 to 18, and 255 for what is not trained on."""
        return train_ids(self.label_ids)

    def annotations(self) -> list[dict]:
        """Return COCO's annotations, without ids: tight boxes and masks, which are the instances' pixels.

        Groups are ``iscrowd``, one for each class.
        """
        flat = self.instance_ids.ravel(order='F')  # COCO counts down the columns
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        stops = np.append(starts[1:], flat.size)
        ids = flat[starts]
        counted = [number for number in sorted(set(ids.tolist())) if number >= 1000 or number in CATEGORIES]
        return [self._annotation(number, starts[ids == number], stops[ids == number]) for number in counted]

    def _annotation(self, number: int, starts: np.ndarray, stops: np.ndarray) -> dict:
        """Return that of an instance or group, whose runs of pixels start and stop there, counted down the columns."""
        height, width = self.instance_ids.shape
        left, right = int(starts[0]) // height, int(stops[-1] - 1) // height
        top, bottom = int((starts % height).min()), int(((stops - 1) % height).max())
        if (starts // height < (stops - 1) // height).any():  # from the foot of a column on at the top of the next
            top, bottom = 0, height - 1
        is_group = number < 1000
        return {
            'category_id': number if is_group else number // 1000,
            'bbox': [left, top, right - left + 1, bottom - top + 1],
            'area': int((stops - starts).sum()),
            'iscrowd': int(is_group),
            'segmentation': {'size': [height, width], 'counts': _counts(starts, stops, height * width)},
        }


def _counts(starts: np.ndarray, stops: np.ndarray, size: int) -> list[int]:
    """Return COCO's run lengths, outside and inside in turn, of a mask with these runs."""
    bounds = np.zeros(2 * len(starts) + 2, np.intp)
    bounds[1:-1:2], bounds[2:-1:2], bounds[-1] = starts, stops, size
    counts = (bounds[1:] - bounds[:-1]).tolist()
    return counts if counts[-1] else counts[:-1]


def render(
    seed: int, split: int, index: int, width: int, height: int, difficulty: float, smallest: int = LEAST_PIXELS
) -> Frame:
    """Render one frame, the same on every machine.

    Args:
        seed: Of the data set.
        split: Number of the split.
        index: Number of the frame in its split.
        width: Pixels.
        height: Pixels.
        difficulty: 0 to 1.
        smallest: Pixels that a thing must show to be an instance.
    """
    numbers = Numbers(seed, split, index)
    return take(make_scene(numbers, width, height, difficulty), numbers, smallest)


def take(scene: Scene, numbers: Numbers, smallest: int = LEAST_PIXELS) -> Frame:
    """Take the picture of a scene; ``numbers`` gives the noise of the camera's sensor."""
    canvas = Canvas(scene.camera)
    scene.street.put(canvas)
    picture = draw(scene.things, canvas, scene.light)
    scene.street.paint(picture, scene.light, cast_shadows(scene.camera, scene.light, scene.things))
    paint_sky(picture, scene.light, scene.salt)
    instance_ids = _instance_ids(picture, scene.things, smallest)
    return Frame(_develop(picture, scene, numbers), picture.label, instance_ids, _millimetres(picture.nearness))


def _instance_ids(picture: Picture, things: list[Thing], smallest: int) -> np.ndarray:
    """Number the instances of each class from 0 on, and leave the groups their label id."""
    sizes = np.bincount(picture.instance.ravel(), minlength=len(things) + 1)
    table = np.zeros(len(sizes), np.uint16)
    following = dict.fromkeys(CATEGORIES, 0)
    for number, (thing, size) in enumerate(zip(things, sizes[1:].tolist(), strict=True), 1):
        if thing.label in CATEGORIES and size >= smallest:
            table[number] = thing.label * 1000 + following[thing.label]
            following[thing.label] += 1
    numbered = table[picture.instance]
    return np.where(numbered > 0, numbered, picture.label)


def _millimetres(nearness: np.ndarray) -> np.ndarray:
    is_measured = nearness * (FARTHEST + 0.0005) > 1
    depth = np.floor(1000 / np.where(is_measured, nearness, 1.0) + 0.5)
    return np.where(is_measured, depth, 0).astype(np.uint16)


def _develop(picture: Picture, scene: Scene, numbers: Numbers) -> np.ndarray:
    """Turn light into pixels: fog, lens and sensor, ``(H, W, 3)`` in uint8."""
    light, difficulty, camera = scene.light, scene.difficulty, scene.camera
    thickness = light.fog / np.maximum(picture.nearness.astype(np.float32), 1e-9)
    through = 1 / (1 + thickness + 0.5 * thickness * thickness)
    if light.fog < 0.003:
        through[picture.nearness == 0] = 1.0  # a clear sky is seen through clear air
    haze = channels(light.haze)[..., None]
    colour = haze + (picture.colour - haze) * through
    exposure = numbers.uniform(1.0, 1.25)
    red, green, blue = (numbers.uniform(0.96, 1.04) * exposure for _ in range(3))
    np.clip(colour, 0, 1.4, out=colour)
    colour *= channels((red, green, blue))[..., None]
    colour = _soften(colour, 0.35 + 0.3 * difficulty * numbers.uniform())
    across, down = camera.across.astype(np.float32), camera.down.astype(np.float32)[:, None]
    colour *= 1 - 0.10 * (4 * across * across + 3 * down * down)
    grain = (0.006 + 0.030 * difficulty * numbers.uniform(0.4, 1.0)) * (1.3 if light.dusk else 1.0)
    colour += grain * numbers.grain(colour.shape)
    np.clip(colour, 0, 1, out=colour)
    colour *= 255
    colour += 0.5
    return np.stack(list(colour.astype(np.uint8)), axis=-1)


def _soften(colour: np.ndarray, amount: float) -> np.ndarray:
    """Mix every pixel with the mean of its neighbours, as a lens does; ``amount`` is 0 to 1."""
    for _ in range(2):  # down the columns, along the rows
        colour = colour.swapaxes(1, 2)
        aside = colour * (amount / 4)
        colour = colour * (1 - amount / 2)
        colour[:, 1:] += aside[:, :-1]
        colour[:, :-1] += aside[:, 1:]
        colour[:, [0, -1]] += aside[:, [0, -1]]  # neighbours of themselves
    return colour

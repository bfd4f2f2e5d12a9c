"""Taking the picture: from a scene to pixels, labels, instances and depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .labels import CATEGORIES, train_ids
from .numbers import Numbers
from .scene import Scene, make_scene
from .street import cast_shadows, paint_sky
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
            class, and the bare label id elsewhere; also where a thing of such a class shows fewer than
            :data:`LEAST_PIXELS` pixels, which Cityscapes calls a group.
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
        ids = np.unique(self.instance_ids)
        return [self._annotation(int(number)) for number in ids if number >= 1000 or int(number) in CATEGORIES]

    def _annotation(self, number: int) -> dict:
        mask = self.instance_ids == number
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        left, top = int(columns[0]), int(rows[0])
        is_group = number < 1000
        return {
            'category_id': number if is_group else number // 1000,
            'bbox': [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
            'area': int(np.count_nonzero(mask)),
            'iscrowd': int(is_group),
            'segmentation': {'size': list(mask.shape), 'counts': run_lengths(mask)},
        }


def run_lengths(mask: np.ndarray) -> list[int]:
    """Return COCO's run lengths of a mask ``(H, W)``: down the columns, beginning with what is outside."""
    flat = mask.ravel(order='F')
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def render(seed: int, split: int, index: int, width: int, height: int, difficulty: float) -> Frame:
    """Render one frame, the same on every machine.

    Args:
        seed: Of the data set.
        split: Number of the split.
        index: Number of the frame in its split.
        width: Pixels.
        height: Pixels.
        difficulty: 0 to 1.
    """
    numbers = Numbers(seed, split, index)
    return take(make_scene(numbers, width, height, difficulty), numbers)


def take(scene: Scene, numbers: Numbers) -> Frame:
    """Take the picture of a scene; ``numbers`` gives the noise of the camera's sensor."""
    canvas = Canvas(scene.camera, scene.light)
    scene.street.paint(canvas, cast_shadows(canvas, scene.things))
    # From the nearest to the farthest: what is hidden is not painted.
    order = sorted(range(len(scene.things)), key=lambda index: scene.camera.depth(*scene.things[index].place))
    for index in order:
        canvas.draw(scene.things[index], index + 1)
    paint_sky(canvas, scene.salt)
    instance_ids = _instance_ids(canvas, scene.things)
    return Frame(_develop(canvas, scene, numbers), canvas.label, instance_ids, _millimetres(canvas.nearness))


def _instance_ids(canvas: Canvas, things: list[Thing]) -> np.ndarray:
    """Number the instances of each class from 0 on, and leave the groups their label id."""
    sizes = np.bincount(canvas.instance.ravel(), minlength=len(things) + 1)
    table = np.zeros(len(sizes), np.uint16)
    following = dict.fromkeys(CATEGORIES, 0)
    for number, (thing, size) in enumerate(zip(things, sizes[1:].tolist(), strict=True), 1):
        if thing.label in CATEGORIES and size >= LEAST_PIXELS:
            table[number] = thing.label * 1000 + following[thing.label]
            following[thing.label] += 1
    numbered = table[canvas.instance]
    return np.where(numbered > 0, numbered, canvas.label)


def _millimetres(nearness: np.ndarray) -> np.ndarray:
    is_measured = nearness * (FARTHEST + 0.0005) > 1
    depth = np.floor(1000 / np.where(is_measured, nearness, 1.0) + 0.5)
    return np.where(is_measured, depth, 0).astype(np.uint16)


def _develop(canvas: Canvas, scene: Scene, numbers: Numbers) -> np.ndarray:
    """Turn light into pixels: fog, lens and sensor, ``(H, W, 3)`` in uint8."""
    light, difficulty = scene.light, scene.difficulty
    depth = 1 / np.maximum(canvas.nearness, 1e-9)
    thickness = light.fog * depth
    through = 1 / (1 + thickness + 0.5 * thickness * thickness)
    if light.fog < 0.003:
        through[canvas.nearness == 0] = 1.0  # a clear sky is seen through clear air
    haze = _single(light.haze)
    colour = canvas.colour.astype(np.float32)
    colour = haze + (colour - haze) * through.astype(np.float32)[..., None]
    exposure = numbers.uniform(1.0, 1.25)
    balance = _single([numbers.uniform(0.96, 1.04) * exposure for _ in range(3)])
    colour = _soften(np.clip(colour, 0, 1.4) * balance, 0.35 + 0.3 * difficulty * numbers.uniform())
    vignette = 1 - 0.10 * (4 * canvas.across * canvas.across + 3 * canvas.down * canvas.down)
    grain = (0.006 + 0.030 * difficulty * numbers.uniform(0.4, 1.0)) * (1.3 if light.dusk else 1.0)
    colour = colour * _single(vignette)[..., None] + _single(grain * numbers.grain(colour.shape))
    return (np.clip(colour, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _single(values: np.ndarray | Sequence[float]) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def _soften(colour: np.ndarray, amount: float) -> np.ndarray:
    """Mix every pixel with the mean of its neighbours, as a lens does; ``amount`` is 0 to 1."""
    own, other = np.float32(1 - amount / 2), np.float32(amount / 4)
    padded = np.pad(colour, ((1, 1), (1, 1), (0, 0)), mode='edge')
    rows = padded[1:-1] * own + (padded[:-2] + padded[2:]) * other
    return rows[:, 1:-1] * own + (rows[:, :-2] + rows[:, 2:]) * other

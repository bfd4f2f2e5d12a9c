"""Pictures of what models predict and show, as arrays ``(H, W, 3)``, RGB, uint8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from torch import Tensor

# Okabe and Ito's colours, which the colour-blind can tell apart; then the same, lighter.
COLOURS = np.array(
    [
        [230, 159, 0],
        [86, 180, 233],
        [0, 158, 115],
        [240, 228, 66],
        [0, 114, 178],
        [213, 94, 0],
        [204, 121, 167],
        [160, 160, 160],
    ],
    dtype=np.uint8,
)
WIDTH = 480  # at least so wide: labels must be legible on a phone
STRIP = 26  # height of the captions


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image.

    Attributes:
        corners: ``(R, 4)``, left, top, right, bottom in pixels of the image.
        labels: Index of the class of each, ``(R,)``.
        scores: Confidence of each in 0..1, or ``None`` of the ground truth.
    """

    corners: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None

    @classmethod
    def none(cls) -> Boxes:
        """Return no box at all."""
        return cls(np.zeros((0, 4)), np.zeros(0, dtype=int))

    @classmethod
    def predicted(cls, instances: Any, threshold: float) -> Boxes:
        """Take an ``InstanceData`` of predictions whose scores reach ``threshold``."""
        scores = _array(instances.scores)
        kept = scores >= threshold
        return cls(_array(instances.bboxes)[kept], _array(instances.labels)[kept], scores[kept])


def draw_boxes(image: np.ndarray, boxes: Boxes, classes: Sequence[str]) -> np.ndarray:
    """Draw boxes with the names of their classes; the picture is as large as the image, at least 480 pixels wide.

    Args:
        image: RGB, ``(H, W, 3)``, uint8.
        boxes: What to draw, in pixels of the image.
        classes: Names of the classes.
    """
    picture = widened(image)
    scale = picture.shape[1] / image.shape[1]
    order = range(len(boxes.labels)) if boxes.scores is None else np.argsort(boxes.scores, kind='stable')
    for index in order:
        label = int(boxes.labels[index])
        left, top, right, bottom = (round(float(value) * scale) for value in boxes.corners[index])
        colour = tuple(int(value) for value in COLOURS[label % len(COLOURS)])
        cv2.rectangle(picture, (left, top), (right, bottom), colour, 2, cv2.LINE_AA)
        text = classes[label] if label < len(classes) else str(label)
        if boxes.scores is not None:
            text = f'{text} {100 * boxes.scores[index]:.0f}'
        _write_on(picture, text, (left, top), colour)
    return picture


def draw_classes(image: np.ndarray, labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Lay the colours of a class map, ``(h, w)``, over an image; labels that the palette lacks stay bare."""
    colours = np.array(palette, dtype=np.uint8)
    labels = _resized(labels.astype(np.int32), image.shape[:2], cv2.INTER_NEAREST)
    known = (labels >= 0) & (labels < len(colours))
    picture = image.copy()
    picture[known] = (0.3 * image[known] + 0.7 * colours[labels[known]]).astype(np.uint8)
    return widened(picture)


def draw_depth(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Draw metres, ``(H, W)``, on one scale from ``near``, bright, to ``far``, dark; black where it is 0, not known."""
    near, far = max(near, 1e-3), max(far, 2e-3)
    position = (np.log(far) - np.log(depth.clip(near, far))) / max(np.log(far) - np.log(near), 1e-6)
    picture = heat(position)
    picture[depth <= 0] = 0
    return widened(picture)


def draw_heat(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Lay a map of 0..1, ``(h, w)``, over an image, from dark to bright."""
    sized = _resized(values.astype(np.float32), image.shape[:2], cv2.INTER_LINEAR)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return widened(cv2.addWeighted(heat(sized), 0.75, grey, 0.25, 0))


def heat(values: np.ndarray) -> np.ndarray:
    """Colour a map of 0..1 with viridis, which grows evenly brighter."""
    levels = (np.nan_to_num(values).clip(0, 1) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def mark(picture: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    """Mark a place, given as fractions of height and width, with a ring."""
    centre = (round(place[1] * picture.shape[1]), round(place[0] * picture.shape[0]))
    picture = cv2.circle(picture.copy(), centre, 9, (0, 0, 0), 5, cv2.LINE_AA)
    return cv2.circle(picture, centre, 9, (255, 255, 255), 2, cv2.LINE_AA)


def side_by_side(pictures: Mapping[str, np.ndarray]) -> np.ndarray:
    """Put pictures of one size into a row, each under its title."""
    height = min(picture.shape[0] for picture in pictures.values())
    columns = []
    for title, picture in pictures.items():
        width = round(picture.shape[1] * height / picture.shape[0])
        column = np.full((height + STRIP, width, 3), 255, np.uint8)
        column[STRIP:] = _resized(picture, (height, width), cv2.INTER_AREA)
        cv2.putText(column, title, (4, STRIP - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (20, 20, 20), 1, cv2.LINE_AA)
        columns.append(column)
    return np.concatenate(columns, axis=1)


def widened(image: np.ndarray) -> np.ndarray:
    """Return a copy of an image, enlarged to a width of at least 480 pixels."""
    height, width = image.shape[:2]
    if width >= WIDTH:
        return image.copy()
    return _resized(image, (round(height * WIDTH / width), WIDTH), cv2.INTER_LINEAR)


def palette_of(meta: Mapping[str, Any], count: int) -> list[list[int]]:
    """Return a colour for each of ``count`` classes: the dataset's own, where it has as many."""
    own = meta.get('palette')
    if isinstance(own, (list, tuple)) and len(own) >= count:
        return [list(map(int, colour)) for colour in own[:count]]
    return [COLOURS[index % len(COLOURS)].tolist() for index in range(count)]


def _write_on(picture: np.ndarray, text: str, corner: tuple[int, int], colour: Sequence[int]) -> None:
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    left = min(max(corner[0], 0), max(picture.shape[1] - width - 4, 0))
    bottom = max(corner[1], height + base + 2)
    cv2.rectangle(picture, (left, bottom - height - base - 2), (left + width + 4, bottom), colour, -1)
    ink = (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 110 else (255, 255, 255)
    cv2.putText(picture, text, (left + 2, bottom - base), cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, 1, cv2.LINE_AA)


def _resized(values: np.ndarray, size: Sequence[int], interpolation: int) -> np.ndarray:
    return cv2.resize(values, (int(size[1]), int(size[0])), interpolation=interpolation)


def _array(value: Any) -> np.ndarray:
    value = getattr(value, 'tensor', value)  # mmdet's boxes
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)

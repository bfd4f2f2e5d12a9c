"""Bootstrap: what another draw of the same images might have measured.

Every image of a data set is given a number of times, ``(draws, images)``, as if it had been drawn that often. A model's
score is then computed again for every draw. Two models are compared on the same draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 1000
RECALLS = np.linspace(0, 1, 101)  # where COCO reads the precision


def times_drawn(images: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Return how often each image comes in each draw of as many images, ``(draws, images)``, float64."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws).astype(np.float64)


def interval(gains: np.ndarray) -> tuple[float, float] | None:
    """Return the middle 95 % of a score's differences, one for each draw; ``None`` where there are none."""
    known = gains[np.isfinite(gains)]
    if not known.size:
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def iou_of(times: np.ndarray, intersect: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Return each class's IoU in percent, ``(draws, classes)``, NaN where a draw lacks it.

    Args:
        times: ``(draws, images)``, see :func:`times_drawn`.
        intersect: Pixels of each image and class, ``(images, classes)``.
        union: The same.
    """
    with np.errstate(invalid='ignore'):
        return 100 * (times @ intersect) / (times @ union)


def mean_over_classes(scores: np.ndarray) -> np.ndarray:
    """Return the mean over the classes that a draw has, ``(draws, classes)`` to ``(draws,)``."""
    known = np.isfinite(scores)
    with np.errstate(invalid='ignore'):
        return np.where(known, scores, 0).sum(axis=1) / known.sum(axis=1)


@dataclass(frozen=True)
class Detections:
    """All detections of one class, within one range of sizes, the most certain first.

    Attributes:
        image: Number of the image of each, ``(D,)``.
        is_right: Whether it meets an object, by each IoU threshold, ``(T, D)``.
        is_counted: Whether it counts at all: those that meet a group, or an object of another size, do not, ``(T, D)``.
        objects: How many objects each image has, ``(images,)``.
    """

    image: np.ndarray
    is_right: np.ndarray
    is_counted: np.ndarray
    objects: np.ndarray

    @classmethod
    def of(cls, found: Sequence[dict | None], thresholds: int) -> Detections:
        """Put together what pycocotools' ``COCOeval.evalImgs`` has of one class and one range of sizes, image by image."""
        objects = np.array([0 if one is None else int((~one['gtIgnore'].astype(bool)).sum()) for one in found])
        parts = [(index, one) for index, one in enumerate(found) if one is not None and one['dtScores']]
        if not parts:
            nothing = np.zeros((thresholds, 0), bool)
            return cls(np.zeros(0, int), nothing, nothing, objects)
        scores = np.concatenate([one['dtScores'] for _, one in parts])
        order = np.argsort(-scores, kind='mergesort')  # as COCOeval sorts
        image = np.concatenate([np.full(len(one['dtScores']), index) for index, one in parts])
        is_right = np.concatenate([one['dtMatches'] for _, one in parts], axis=1) > 0
        is_counted = ~np.concatenate([one['dtIgnore'] for _, one in parts], axis=1).astype(bool)
        return cls(image[order], is_right[:, order], is_counted[:, order], objects)

    def average_precision(self, times: np.ndarray) -> np.ndarray:
        """Return COCO's average precision at each threshold in 0..1, ``(draws, T)``, NaN where a draw has no object."""
        return np.stack([self._of_draw(draw) for draw in times])

    def _of_draw(self, times: np.ndarray) -> np.ndarray:
        objects = times @ self.objects
        if not objects:
            return np.full(len(self.is_right), np.nan)
        if not self.image.size:
            return np.zeros(len(self.is_right))
        weight = times[self.image]
        right = np.cumsum(weight * (self.is_right & self.is_counted), axis=1)
        wrong = np.cumsum(weight * (~self.is_right & self.is_counted), axis=1)
        precision = right / np.maximum(right + wrong, np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        found = []
        for recall, best in zip(right / objects, precision, strict=True):
            places = np.searchsorted(recall, RECALLS, side='left')
            found.append(np.where(places < best.size, best[np.minimum(places, best.size - 1)], 0).mean())
        return np.array(found)

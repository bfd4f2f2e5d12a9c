"""Intervals of paired differences, and the word for them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kddense.report.metrics import LOWER_IS_BETTER
from kddense.report.resampling import iou_of, mean_over_classes, times_drawn

HELPS, NOTHING, HARMS, TOO_FEW = 'helps', 'no difference seen', 'harms', 'too few seeds'


def paired_interval(differences: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Return the mean of paired differences, and its 95 % interval by Student's t.

    Args:
        differences: One for each seed: the method's score less the plain student's.

    Returns:
        The mean, and the interval, ``None`` for a single pair.

    Example:
        >>> mean, (low, high) = paired_interval([1.0, 2.0, 3.0])
        >>> round(mean, 2), round(low, 2), round(high, 2)
        (2.0, -0.48, 4.48)
    """
    from scipy.stats import t  # here, as it takes a while and mmengine alone does not bring it

    mean = statistics.mean(differences)
    count = len(differences)
    if count < 2:
        return mean, None
    reach = t.ppf(0.975, count - 1) * statistics.stdev(differences) / math.sqrt(count)
    return mean, (float(mean - reach), float(mean + reach))


def verdict(interval: tuple[float, float] | None) -> str:
    """Return what an interval of differences, signed so that above 0 helps, says in words."""
    if interval is None:
        return TOO_FEW
    if interval[0] > 0:
        return HELPS
    return HARMS if interval[1] < 0 else NOTHING


def sign_of(metric: str) -> int:
    """Return -1 for a metric where lower is better, else 1."""
    return -1 if metric.rpartition('/')[2] in LOWER_IS_BETTER else 1


def bootstrap_iou(pairs: Sequence[tuple[Path, Path]], draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean difference of mIoU, by drawing test images again.

    The same images are drawn for both sides and all seeds: this is what another test set might say of these very students,
    where :func:`paired_interval` is what other seeds might say on this very test set.

    Args:
        pairs: For each seed the files of :class:`kddense.evaluation.ImageIoUMetric` of the method and of the plain student.
        draws: How often.
        seed: Of the draws.

    Returns:
        The interval, in percentage points.

    Raises:
        ValueError: If two files hold another number of images.
    """
    areas = [[_areas(file) for file in pair] for pair in pairs]
    images = areas[0][0].shape[1]
    for pair, files in zip(areas, pairs, strict=True):
        for one, file in zip(pair, files, strict=True):
            if one.shape[1] != images:
                raise ValueError(
                    f'{file} holds {one.shape[1]} test images, {pairs[0][0]} {images}: not the same test set'
                )
    times = times_drawn(images, draws, seed)
    gains = np.mean([_miou(times, own) - _miou(times, base) for own, base in areas], axis=0)
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(low), float(high)


def _areas(file: Path) -> np.ndarray:
    """Return intersections and unions, shape ``(2, images, classes)``."""
    with np.load(file) as contents:
        return np.stack([contents['intersect'], contents['union']]).astype(np.float64)


def _miou(times: np.ndarray, areas: np.ndarray) -> np.ndarray:
    return mean_over_classes(iou_of(times, *areas))

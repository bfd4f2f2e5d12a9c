"""Is the teacher any good on the student's own validation images?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import nn

from kddense.report.evaluation import build_loader, evaluate
from kddense.report.metrics import Metric, in_order

NOTHING_FOUND = 0.01  # of COCO's and VOC's mAP: boxes at random have less
IMAGES_FOR_A_CONSTANT = 64


def tested(model: nn.Module, config: Config, device: str, say: Callable[[str], None], what: str) -> dict[str, float]:
    """Measure a model on a student's validation images, each normalised as the model itself wants it.

    That is what the model is shown as a teacher, too: the student's images, by its own data preprocessor.

    Args:
        model: The teacher or a student, in eval mode.
        config: The student's config: its data, its evaluator.
        device: Where to run it.
        say: Told how far it is.
        what: How to call it.

    Returns:
        Metrics by the evaluator's names.
    """
    every = _now_and_then(say, what)
    return evaluate(model.to(device).eval(), config, 'val', every).metrics


def headline(metrics: dict[str, float]) -> Metric:
    """Return the metric that counts most."""
    return in_order(metrics)[0]


def chance(metric: Metric, config: Config) -> float | None:
    """Return what a model reaches that has learnt nothing, ``None`` if that is not known.

    A map that is one class everywhere has at most one of the classes right; of depths it is the best constant one.

    Args:
        metric: What is measured.
        config: The student's config.
    """
    name = metric.key.rpartition('/')[2]
    if name.endswith('mAP'):
        return NOTHING_FOUND
    loader: Any = build_loader(config, 'val')
    if name == 'mIoU':
        return 100 / len(loader.dataset.metainfo['classes'])
    return _constant_depth(loader.dataset) if name == 'abs_rel' else None


def fault_of(metric: Metric, teacher: float, other: float, name: str) -> str | None:
    """Return a sentence if the teacher is no better than something else.

    Args:
        metric: What was measured.
        teacher: The teacher's.
        other: What it is compared with.
        name: What that is.
    """
    if metric.sign and math.isfinite(teacher) and (teacher - other) * metric.sign > 0:
        return None
    if not metric.sign and math.isfinite(teacher):
        return None  # nobody knows which is better
    return (
        f"the teacher has {metric.label} {metric.written(teacher)} on the student's validation images, no better than "
        f'{name} ({metric.written(other)}): it has nothing to teach; check its config and checkpoint, and that both see the '
        'same data, or pass --no-teacher-test'
    )


def _constant_depth(dataset: Any) -> float | None:
    """Return the mean relative error of the constant depth that is the best one for some of the images."""
    chosen = np.linspace(0, len(dataset) - 1, min(len(dataset), IMAGES_FOR_A_CONSTANT)).astype(int)
    maps = [dataset[int(index)]['data_samples'] for index in chosen]
    depths = [np.asarray(one.gt_depth_map.data).reshape(-1)[::7] for one in maps if 'gt_depth_map' in one]
    if not depths:
        return None
    depth = np.sort(np.concatenate(depths))
    depth = depth[(depth > 0) & np.isfinite(depth)]
    weights = np.cumsum(1 / depth)
    best = depth[np.searchsorted(weights, weights[-1] / 2)]
    return float(np.mean(np.abs(depth - best) / depth))


def _now_and_then(say: Callable[[str], None], what: str) -> Callable[[int, int], None]:
    def progress(done: int, count: int) -> None:
        if done == count or done % max(1, count // 5) == 0:
            say(f'testing {what}: batch {done} of {count}')

    return progress

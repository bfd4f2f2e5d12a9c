"""How the metrics of detectors, segmentors and depth estimators are called and written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

LOWER_IS_BETTER = ('abs_rel', 'sq_rel', 'rmse', 'rmse_log', 'log10', 'silog')
FRACTIONS = ('d1', 'd2', 'd3')
LABELS = {
    'bbox_mAP': 'mAP',
    'segm_mAP': 'mask mAP',
    'abs_rel': 'abs rel',
    'sq_rel': 'sq rel',
    'rmse': 'RMSE, m',
    'rmse_log': 'RMSE of the logarithm',
    'd1': 'δ < 1.25',
    'd2': 'δ < 1.25²',
    'd3': 'δ < 1.25³',
}
HEADLINES = ('bbox_mAP', 'segm_mAP', 'mAP', 'PQ', 'mIoU', 'abs_rel')
SIZES = {'50': '50', '75': '75', 's': ' small', 'm': ' medium', 'l': ' large'}


@dataclass(frozen=True)
class Metric:
    """A metric by the name that an evaluator gave it.

    Attributes:
        key: Its name in the log.
        label: What people call it.
        factor: What a value is multiplied by to be written: 100 for COCO's.
        digits: Behind the point.
        sign: 1 if greater is better, -1 if less is, 0 if that is not known.
    """

    key: str
    label: str
    factor: float = 1.0
    digits: int = 2
    sign: int = 0

    @classmethod
    def of(cls, key: str) -> Metric:
        """Look a metric up; one that is not known is written as it is."""
        prefix, _, name = key.rpartition('/')
        stem, _, size = name.rpartition('_')
        if prefix.endswith('coco') and name.startswith(('bbox_', 'segm_')):
            label = LABELS.get(name) or f'{LABELS.get(stem, stem)}{SIZES.get(size, f" {size}")}'
            return cls(key, label, factor=100, digits=1, sign=1)
        if prefix.endswith('coco_panoptic'):
            return cls(key, name, digits=1, sign=1)
        if name in ('mIoU', 'aAcc', 'mAcc', 'mDice', 'mFscore', 'mPrecision', 'mRecall'):
            return cls(key, name, digits=1, sign=1)
        if prefix.endswith('pascal_voc'):
            return cls(key, name, factor=100, digits=1, sign=1)
        if name in LOWER_IS_BETTER:
            return cls(key, LABELS.get(name, name), digits=3, sign=-1)
        if name in FRACTIONS:
            return cls(key, LABELS[name], digits=3, sign=1)
        return cls(key, key, digits=3)

    def written(self, value: float | None) -> str:
        """Return a value as text; a dash for none, and for COCO's -1, which says that there is nothing to measure."""
        if value is None or not math.isfinite(value) or (self.factor == 100 and value < 0):
            return '–'
        return f'{self.factor * value:.{self.digits}f}'

    def gain(self, before: float | None, after: float | None) -> str:
        """Return the difference as text with its sign; empty where there is none."""
        if '–' in (self.written(before), self.written(after)) or before is None or after is None:
            return ''
        return self.difference(after - before)

    def difference(self, value: float) -> str:
        """Return a difference, in the evaluator's units, as text with its sign."""
        return f'{self.factor * value:+.{self.digits}f}'.replace('-', '−')

    def verdict(self, between: tuple[float, float]) -> str:
        """Return ``'better'`` or ``'worse'`` if an interval of differences lies on one side of 0, else ``''``."""
        ends = sorted(self.sign * end for end in between)
        if ends[0] > 0:
            return 'better'
        return 'worse' if ends[1] < 0 else ''


CLASS_METRICS = {
    'AP': Metric('AP', 'AP', digits=1, sign=1),
    'IoU': Metric('IoU', 'IoU', digits=1, sign=1),
    'abs rel': Metric('abs rel', 'abs rel', digits=3, sign=-1),
}


def metric_by_class(measure: str) -> Metric:
    """Return the metric of what is measured by class: ``'AP'``, ``'IoU'``, or ``'abs rel'`` by distance."""
    return CLASS_METRICS.get(measure, Metric.of(measure))


def in_order(keys: Iterable[str]) -> list[Metric]:
    """Return metrics, the one that counts most first."""
    keys = list(dict.fromkeys(keys))
    names = [key.rpartition('/')[2] for key in keys]
    first = [keys[names.index(name)] for name in HEADLINES if name in names][:1]
    return [Metric.of(key) for key in (*first, *(key for key in keys if key not in first))]

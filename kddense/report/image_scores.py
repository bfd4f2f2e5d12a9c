"""What each image of a data set adds to a model's scores, so that a bootstrap can draw images again."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .resampling import Detections, iou_of, mean_over_classes

SIZES = ('all', 'small', 'medium', 'large')  # COCOeval's order


class ImageScores:
    """Scores of any draw of images.

    Attributes:
        measure: What the scores by class are, such as ``'IoU'``.
    """

    measure = ''

    @property
    def images(self) -> int:
        """How many images there are."""
        raise NotImplementedError

    def scores(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Return each metric by the evaluator's name, ``(draws,)``.

        Args:
            times: How often each image comes, ``(draws, images)``.
        """
        raise NotImplementedError

    def by_class(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Return the measure of each class, or range of distances, ``(draws,)``, NaN where a draw lacks it.

        Args:
            times: How often each image comes, ``(draws, images)``.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class BoxScores(ImageScores):
    """A detector's: COCO's average precision.

    Attributes:
        detections: By size and by class.
        classes: Their names.
        thresholds: IoU from which a detection is right, ``(T,)``.
        prefix: Of the metrics' names, such as ``'coco/bbox_'``.
    """

    detections: Mapping[str, Sequence[Detections]]
    classes: Sequence[str]
    thresholds: np.ndarray
    prefix: str
    measure = 'AP'

    @classmethod
    def of(cls, metric: Any, predictions: Sequence[Mapping[str, Any]]) -> BoxScores | None:
        """Take mmdet's ``CocoMetric`` after it has measured; ``None`` if it measures no boxes, or there are none.

        Args:
            metric: The metric.
            predictions: Its results, image by image.
        """
        if 'bbox' not in metric.metrics or not any(len(one['labels']) for one in predictions):
            return None
        from pycocotools.cocoeval import COCOeval  # needed by detectors alone

        boxes = [
            dict(
                image_id=one['img_id'],
                category_id=metric.cat_ids[label],
                bbox=metric.xyxy2xywh(box),
                score=float(score),
            )
            for one in predictions
            for label, box, score in zip(one['labels'], one['bboxes'], one['scores'], strict=True)
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCOeval(metric._coco_api, metric._coco_api.loadRes(boxes), 'bbox')
            coco.params.catIds, coco.params.imgIds = metric.cat_ids, metric.img_ids
            coco.params.iouThrs = np.asarray(metric.iou_thrs)
            coco.params.maxDets = [max(metric.proposal_nums)]
            coco.evaluate()
        count = len(coco.params.imgIds)
        runs = [coco.evalImgs[start : start + count] for start in range(0, len(coco.evalImgs), count)]
        found = [Detections.of(run, len(coco.params.iouThrs)) for run in runs]
        in_order = sorted(metric.cat_ids)  # as COCOeval has them, where labels are in the order of the annotations
        places = [len(SIZES) * in_order.index(one) for one in metric.cat_ids]
        detections = {size: [found[place + index] for place in places] for index, size in enumerate(SIZES)}
        prefix = f'{metric.prefix}/bbox_' if metric.prefix else 'bbox_'
        return cls(detections, tuple(metric.dataset_meta['classes']), coco.params.iouThrs, prefix)

    @property
    def images(self) -> int:
        return len(self.detections['all'][0].objects)

    def scores(self, times: np.ndarray) -> dict[str, np.ndarray]:
        precision = {size: self._precision(size, times) for size in SIZES}
        found = {'mAP': self._mean(precision['all'])}
        for name, threshold in (('mAP_50', 0.5), ('mAP_75', 0.75)):
            near = np.isclose(self.thresholds, threshold)
            if near.any():
                found[name] = self._mean(precision['all'][..., near])
        found.update({f'mAP_{size[0]}': self._mean(precision[size]) for size in SIZES[1:]})
        return {f'{self.prefix}{name}': values for name, values in found.items()}

    def by_class(self, times: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.classes, 100 * self._precision('all', times).mean(axis=2), strict=True))

    def _precision(self, size: str, times: np.ndarray) -> np.ndarray:
        """Return ``(classes, draws, T)``."""
        return np.stack([one.average_precision(times) for one in self.detections[size]])

    @staticmethod
    def _mean(precision: np.ndarray) -> np.ndarray:
        """Return the mean over classes and thresholds, ``(draws,)``; -1 where no object is of that size, as COCO has it."""
        mean = mean_over_classes(precision.mean(axis=2).T)
        return np.where(np.isfinite(mean), mean, -1)


@dataclass(frozen=True)
class PixelScores(ImageScores):
    """A segmentor's: IoU and accuracy.

    Attributes:
        intersect: Pixels that are right, ``(images, classes)``, float64.
        union: Pixels that are or are said to be of a class.
        label: Pixels that are of a class.
        classes: Their names.
    """

    intersect: np.ndarray
    union: np.ndarray
    label: np.ndarray
    classes: Sequence[str]
    measure = 'IoU'

    @classmethod
    def of(cls, metric: Any, results: Sequence[Any]) -> PixelScores:
        """Take the results of mmseg's ``IoUMetric``."""
        intersect, union, _, label = (
            torch.stack([one[part] for one in results]).double().cpu().numpy() for part in range(4)
        )
        return cls(intersect, union, label, tuple(metric.dataset_meta['classes']))

    @property
    def images(self) -> int:
        return len(self.union)

    def scores(self, times: np.ndarray) -> dict[str, np.ndarray]:
        right = (times @ self.intersect).sum(axis=1)
        return {
            'mIoU': mean_over_classes(iou_of(times, self.intersect, self.union)),
            'mAcc': mean_over_classes(iou_of(times, self.intersect, self.label)),
            'aAcc': 100 * right / (times @ self.label).sum(axis=1),
        }

    def by_class(self, times: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.classes, iou_of(times, self.intersect, self.union).T, strict=True))


@dataclass(frozen=True)
class DepthScores(ImageScores):
    """A depth estimator's: means over images, as mmseg has them, and the relative error by distance, over pixels.

    Attributes:
        of_images: Each metric of each image, ``(images,)``.
        error: Sum of the relative errors of each image and third of all pixels, ``(images, 3)``.
        pixels: How many pixels that were.
        thirds: What the thirds are called.
    """

    of_images: Mapping[str, np.ndarray]
    error: np.ndarray
    pixels: np.ndarray
    thirds: Sequence[str]
    measure = 'abs rel'

    @classmethod
    def of(cls, metric: Any, results: Sequence[Any]) -> DepthScores:
        """Take the results of mmseg's ``DepthMetric``."""
        known = [pair for pair in results if len(pair[0])]
        rows = [metric._calc_all_metrics(*pair) for pair in known]
        of_images = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        pairs = [tuple(side.double().cpu().numpy() for side in pair) for pair in known]
        bounds = np.quantile(np.concatenate([truth for truth, _ in pairs]), [0, 1 / 3, 2 / 3, 1])
        error, pixels = np.zeros((2, len(pairs), 3))
        for index, (truth, predicted) in enumerate(pairs):
            third = np.searchsorted(bounds[1:3], truth, side='right')
            error[index] = np.bincount(third, np.abs(predicted - truth) / truth, minlength=3)
            pixels[index] = np.bincount(third, minlength=3)
        names = [f'{low:.1f} m to {high:.1f} m' for low, high in itertools.pairwise(bounds)]
        return cls(of_images, error, pixels, names)

    @property
    def images(self) -> int:
        return len(self.pixels)

    def scores(self, times: np.ndarray) -> dict[str, np.ndarray]:
        return {name: times @ values / times.sum(axis=1) for name, values in self.of_images.items()}

    def by_class(self, times: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid='ignore'):
            means = (times @ self.error) / (times @ self.pixels)
        return {name: values for name, values in zip(self.thirds, means.T, strict=True) if np.isfinite(values).any()}


def image_scores(metric: Any, results: Sequence[Any]) -> ImageScores | None:
    """Return what an evaluator's results tell of each image; ``None`` of an evaluator that is not known.

    Args:
        metric: mmdet's ``CocoMetric`` after it has measured, mmseg's ``IoUMetric`` or ``DepthMetric``.
        results: What it gathered, image by image.
    """
    if not results:
        return None
    if hasattr(metric, '_coco_api'):
        return BoxScores.of(metric, [predicted for _, predicted in results])
    if hasattr(metric, 'total_area_to_metrics'):
        return PixelScores.of(metric, results)
    return DepthScores.of(metric, results) if hasattr(metric, 'max_depth_eval') else None

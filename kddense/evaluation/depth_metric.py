"""mmseg's depth metrics on images of any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmseg.evaluation.metrics import DepthMetric as StockDepthMetric
from torch import Tensor

from kddense.registry import METRICS, Plain


def _nyu(height: int, width: int) -> tuple[slice, slice]:
    """Eigen's crop of NYU, rows 45:471 and columns 41:601 of 480x640, rounded inwards."""
    return slice(-(-height * 45 // 480), height * 471 // 480), slice(-(-width * 41 // 640), width * 601 // 640)


def _garg(height: int, width: int) -> tuple[slice, slice]:
    return _fractions(height, width, 0.40810811, 0.99189189, 0.03594771, 0.96405229)


def _eigen(height: int, width: int) -> tuple[slice, slice]:
    return _fractions(height, width, 0.3324324, 0.91351351, 0.0359477, 0.96405229)


def _fractions(height: int, width: int, top: float, bottom: float, left: float, right: float) -> tuple[slice, slice]:
    return slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))


CROPS: dict[str, Callable[[int, int], tuple[slice, slice]]] = {
    'nyu_crop': _nyu,
    'garg_crop': _garg,
    'eigen_crop': _eigen,
}


@METRICS.register_module()
class DepthMetric(StockDepthMetric):
    """mmseg's ``DepthMetric`` with crops that scale with the image: the same numbers at 480x640.

    mmseg averages each metric over images. Here images without any pixel to evaluate are left out, which there make
    every metric NaN.

    Args:
        crop_type: ``'nyu_crop'``, for KITTI ``'garg_crop'`` or ``'eigen_crop'``, or None.
        depth_metrics: Names of the metrics, all by default.
        **kwargs: See mmseg's.

    Raises:
        ValueError: If a crop or a metric is unknown, or no image has a pixel to evaluate.
    """

    def __init__(self, crop_type: str | None = None, depth_metrics: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if crop_type is not None and crop_type not in CROPS:
            raise ValueError(f'crop_type must be one of {", ".join(CROPS)} or None, got {crop_type!r}')
        for name in depth_metrics or ():
            if name not in self.METRICS:
                raise ValueError(f'depth_metrics must be of {", ".join(self.METRICS)}, got {name!r}')
        self.crop_type = crop_type
        self.metrics = tuple(depth_metrics or self.METRICS)

    def _get_eval_mask(self, gt_depth: Tensor) -> Tensor:
        inside = (gt_depth > self.min_depth_eval) & (gt_depth < self.max_depth_eval)
        if self.crop_type is None:
            return inside
        rows, columns = CROPS[self.crop_type](*gt_depth.shape)
        cropped = torch.zeros_like(inside)
        cropped[rows, columns] = inside[rows, columns]
        return cropped

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average over the images that have a pixel to evaluate."""
        if self.format_only:
            return super().compute_metrics(results)
        evaluated = [pair for pair in results if len(pair[0])]
        if not evaluated:
            raise ValueError('no image has a pixel with a depth within the range and the crop of the DepthMetric')
        if len(evaluated) < len(results):
            missing = len(results) - len(evaluated)
            print_log(f'{missing} images have no pixel to evaluate and are left out', logger='current', level=30)
        return super().compute_metrics(evaluated)

    @staticmethod
    def plain(config: Mapping[str, Any], place: str) -> Plain:
        """Return mmseg's metric where it has the same crop; see :class:`kddense.registry.Plain`."""
        if config.get('crop_type') not in (None, 'nyu_crop'):
            return Plain()
        # mmseg 1.2 fails on its own argument depth_metrics, and measures all of them without it
        kept = {key: value for key, value in config.items() if key != 'depth_metrics'}
        return Plain(({**kept, 'type': 'mmseg.DepthMetric'},), 'which crops images of 640x480 only')

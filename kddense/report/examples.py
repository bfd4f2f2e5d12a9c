"""A few images of a data set, with their ground truth and what models make of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from .pictures import COLOURS, Boxes, draw_boxes, draw_classes, draw_depth, palette_of

LEAST_SCORE = 0.3  # mmdet's own choice for pictures


@dataclass(frozen=True)
class Example:
    """One image of a data set.

    Attributes:
        name: The image's file name.
        image: ``(H, W, 3)``, RGB, uint8, in its original size.
        item: What the data set's pipeline made of it: ``inputs`` and ``data_samples``.
        meta: The data set's classes and palette.
        boxes: Ground truth of a detector, in pixels of the image.
        labels: Ground truth of a segmentor, class indices ``(h, w)``.
        depth: Ground truth of a depth estimator in metres, ``(h, w)``, 0 where it is not known.
    """

    name: str
    image: np.ndarray
    item: Mapping[str, Any]
    meta: Mapping[str, Any]
    boxes: Boxes | None = None
    labels: np.ndarray | None = None
    depth: np.ndarray | None = None

    @classmethod
    def of(cls, dataset: Any, index: int) -> Example:
        """Take an image out of a data set of mmdet or mmseg."""
        item = dataset[index]
        sample = item['data_samples']
        return cls(
            name=Path(sample.img_path).name,
            image=_read_image(sample.img_path),
            item=item,
            meta=dataset.metainfo,
            boxes=_true_boxes(dataset.get_data_info(index)),
            labels=_map_of(sample, 'gt_sem_seg'),
            depth=_map_of(sample, 'gt_depth_map'),
        )

    def batch(self) -> dict[str, Any]:
        """Return a batch of this image alone."""
        return pseudo_collate([self.item])

    def truth(self) -> np.ndarray:
        """Draw the ground truth; the image itself where there is none."""
        if self.labels is not None:
            return self._draw_labels(self.labels)
        if self.depth is not None:
            return draw_depth(self.depth, *self._depth_range())
        return draw_boxes(self.image, self.boxes or Boxes.none(), self._classes())

    def prediction(self, model: nn.Module) -> np.ndarray:
        """Draw what a model of mmdet or mmseg, in eval mode, predicts."""
        (sample,) = model.test_step(self.batch())  # type: ignore[operator]
        if 'pred_sem_seg' in sample:
            return self._draw_labels(sample.pred_sem_seg.data.squeeze(0).cpu().numpy())
        if 'pred_depth_map' in sample:
            return draw_depth(sample.pred_depth_map.data.squeeze(0).cpu().numpy(), *self._depth_range())
        return draw_boxes(self.image, Boxes.predicted(sample.pred_instances, LEAST_SCORE), self._classes())

    def legend(self) -> dict[str, str]:
        """Return the colours, as CSS has them, of the classes that the ground truth shows; empty of depths."""
        if self.labels is not None:
            shown, palette = np.unique(self.labels), palette_of(self.meta, len(self._classes()))
        else:
            shown = np.unique(self.boxes.labels) if self.boxes is not None else np.zeros(0, int)
            palette = [COLOURS[index % len(COLOURS)].tolist() for index in range(len(self._classes()))]
        names = self._classes()
        return {names[label]: 'rgb({}, {}, {})'.format(*palette[label]) for label in shown if label < len(names)}

    def _classes(self) -> tuple[str, ...]:
        return tuple(self.meta.get('classes') or ())

    def _draw_labels(self, labels: np.ndarray) -> np.ndarray:
        return draw_classes(self.image, labels, palette_of(self.meta, len(self._classes())))

    def _depth_range(self) -> tuple[float, float]:
        """Return one scale for all pictures of this image: that of its ground truth."""
        known = self.depth[self.depth > 0] if self.depth is not None else np.zeros(0)
        return (float(known.min()), float(known.max())) if known.size else (1e-3, 10.0)


def examples_of(dataset: Any, count: int) -> list[Example]:
    """Return ``count`` images spread evenly over a data set, or all of a smaller one."""
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int))
    return [Example.of(dataset, int(index)) for index in indices]


def _read_image(path: str) -> np.ndarray:
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(f'there is no image {path}')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _true_boxes(info: Mapping[str, Any]) -> Boxes | None:
    """Return the annotated boxes: those of a sample may be resized with the image, these never are."""
    if 'instances' not in info:
        return None
    shown = [instance for instance in info['instances'] if not instance.get('ignore_flag')]
    corners = np.array([instance['bbox'] for instance in shown], dtype=np.float64).reshape(-1, 4)
    return Boxes(corners, np.array([instance['bbox_label'] for instance in shown], dtype=int))


def _map_of(sample: Any, key: str) -> np.ndarray | None:
    if key not in sample:
        return None
    value: Tensor = getattr(sample, key).data
    return value.squeeze(0).cpu().numpy()

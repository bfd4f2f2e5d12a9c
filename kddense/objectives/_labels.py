"""What is at each place of a map, by the ground truth of any family."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kddense.exchange import Batch
from kddense.views import ModelView, ViewError, is_unlabelled


class PlaceLabels:
    """Finds the class of each place of a map in the ground truth of a batch.

    Of a segmentor, the label of the pixel at the middle of the place. Of a detector, the class of the smallest box around
    the middle, and where there is none the background, a class of its own. Of a depth estimator, which interval the depth
    of that pixel lies in, of intervals that are equal in its logarithm.

    Args:
        student: The student's view.
        intervals: Into how many the range of a depth estimator is divided, at least 1.

    Attributes:
        classes: How many there are.

    Raises:
        ViewError: If the student is of a family without such a ground truth.
    """

    def __init__(self, student: ModelView, intervals: int = 8) -> None:
        if intervals < 1:
            raise ValueError(f'intervals must be at least 1, got {intervals}')
        model = student.model
        if student.shows_depth:
            self._find: Any = _Depths(model.decode_head, intervals)
        elif 'pixels' in student.kinds:
            self._find = _Pixels(_last(model.decode_head))
        else:
            self._find = _Boxes(_num_classes(student))
        self.classes: int = self._find.classes

    def at(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """Return the classes, int64, ``(N, h, w)`` for a map of ``size``; -1 where there is none, such as in padding."""
        height, width = batch.inputs.shape[-2:]
        rows = _middles(height, size[0], batch.inputs.device)
        columns = _middles(width, size[1], batch.inputs.device)
        found = [self._of(sample, rows, columns, (height, width)) for sample in batch.data_samples]
        return torch.stack(found) if found else rows.new_zeros(0, *size, dtype=torch.long)

    def _of(self, sample: Any, rows: Tensor, columns: Tensor, whole: tuple[int, int]) -> Tensor:
        if is_unlabelled(sample):
            return torch.full((len(rows), len(columns)), -1, device=rows.device)
        labels = self._find(sample, rows, columns)
        height, width = sample.metainfo.get('img_shape', whole)[:2]
        inside = (rows < height)[:, None] & (columns < width)[None]
        return labels.masked_fill(~inside, -1)


class _Pixels:
    def __init__(self, head: Any) -> None:
        self.classes, self.ignored = head.num_classes, head.ignore_index

    def __call__(self, sample: Any, rows: Tensor, columns: Tensor) -> Tensor:
        labels = _pick(sample.gt_sem_seg.data, rows, columns).long()
        return labels.masked_fill((labels == self.ignored) | (labels >= self.classes), -1)


class _Depths:
    def __init__(self, head: Any, intervals: int) -> None:
        self.classes = intervals
        self.low, self.high = head.min_depth, head.max_depth

    def __call__(self, sample: Any, rows: Tensor, columns: Tensor) -> Tensor:
        depth = _pick(sample.gt_depth_map.data, rows, columns).float()
        known = (depth > 0) & (depth >= self.low) & (depth <= self.high)
        share = (depth.clamp(min=self.low).log() - math.log(self.low)) / math.log(self.high / self.low)
        return (share * self.classes).long().clamp(max=self.classes - 1).masked_fill(~known, -1)


class _Boxes:
    def __init__(self, num_classes: int) -> None:
        self.classes = num_classes + 1

    def __call__(self, sample: Any, rows: Tensor, columns: Tensor) -> Tensor:
        boxes = sample.gt_instances.bboxes
        boxes = getattr(boxes, 'tensor', boxes)
        background = torch.full((len(rows), len(columns)), self.classes - 1, device=rows.device)
        if len(boxes) == 0:
            return background
        left, top, right, bottom = boxes[:, :, None].unbind(1)
        inside = ((rows >= top) & (rows < bottom))[:, :, None] & ((columns >= left) & (columns < right))[:, None]
        area = ((right - left) * (bottom - top))[:, :, None].expand_as(inside).masked_fill(~inside, torch.inf)
        least, which = area.min(dim=0)
        return torch.where(least.isfinite(), sample.gt_instances.labels[which], background)


def _middles(length: int, places: int, device: torch.device) -> Tensor:
    return (torch.arange(places, device=device) + 0.5) * (length / places)


def _pick(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the pixels of ``(1, H, W)`` at the middles of places, ``(h, w)``."""
    height, width = pixels.shape[-2:]
    return pixels[0][rows.long().clamp(max=height - 1)][:, columns.long().clamp(max=width - 1)]


def _last(heads: Any) -> Any:
    return heads[-1] if isinstance(heads, torch.nn.ModuleList) else heads


def _num_classes(student: ModelView) -> int:
    model = student.model
    heads = [getattr(model, 'bbox_head', None), getattr(getattr(model, 'roi_head', None), 'bbox_head', None)]
    for head in filter(None, heads):
        return int(_last(head).num_classes)
    raise ViewError(
        f'{student.owner} ({type(model).__name__}) has no ground truth of places: it must be a segmentor, a depth estimator '
        'or a detector'
    )

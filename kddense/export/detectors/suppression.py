"""Non-maximum suppression of whole batches as ONNX has it, with mmdet's choice of boxes before and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchvision.ops import nms

if TYPE_CHECKING:
    from .base import Level

KNOWN = ('type', 'iou_threshold', 'class_agnostic', 'split_thr')


@dataclass(frozen=True)
class Suppression:
    """The settings of a ``test_cfg``.

    Attributes:
        overlap: Of two boxes that overlap more (intersection over union), the one with the lower score goes.
        most: How many boxes of an image are kept.
        before: How many of each level are looked at, the best; 0 for all.
        least_score: Only scores above it are looked at.
        least_side: Only boxes whose sides are longer are looked at, in pixels; below 0 for all.
        by_level: Boxes of different levels leave each other alone, as a region proposal network has it.
        by_class: Boxes of different classes leave each other alone.
    """

    overlap: float
    most: int
    before: int = 0
    least_score: float = 0.0
    least_side: float = -1.0
    by_level: bool = False
    by_class: bool = True

    @classmethod
    def of(cls, settings: Mapping[str, Any], key: str, by_level: bool = False) -> Suppression:
        """Read a ``test_cfg``.

        Args:
            settings: That of a head.
            key: Where it is in the config.
            by_level: See above.

        Raises:
            RuntimeError: If it asks for something else than plain non-maximum suppression.
        """
        asked = settings.get('nms') or {}
        kind = asked.get('type', 'nms')
        more = [name for name in asked if name not in KNOWN]
        if not asked or kind != 'nms' or more:
            what = more[0] if more else f'type={kind!r}'
            raise RuntimeError(
                f"{key}.nms: ONNX has plain non-maximum suppression alone, not {what}: set type='nms' with an "
                'iou_threshold, or pass --outputs raw'
            )
        return cls(
            overlap=float(asked['iou_threshold']),
            most=int(settings['max_per_img']),
            before=max(int(settings.get('nms_pre', 0)), 0),
            least_score=0.0 if by_level else float(settings.get('score_thr', 0.0)),
            least_side=float(settings.get('min_bbox_size', -1)),
            by_level=by_level,
            by_class=not asked.get('class_agnostic', False),
        )

    def __call__(self, levels: Sequence[Level]) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes ``(N, K, 4)``, scores ``(N, K)`` and labels ``(N, K)`` of what is kept, the best first.

        K is ``most``, or the number of candidates if that is less; rows without a box have the score 0 and the label -1.
        """
        parts = [self._candidates(level, index) for index, level in enumerate(levels)]
        boxes, scores, labels = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        valid = scores > 0
        apart = boxes
        if self.by_class or self.by_level:  # mmcv moves groups apart; its rounding is that of the moved boxes
            reach = torch.where(valid[..., None], boxes, torch.zeros_like(boxes)).amax(dim=(1, 2), keepdim=True) + 1
            apart = boxes + labels[..., None].to(boxes) * reach
        selected = NonMaxSuppression.apply(apart, scores[:, None], self.most, self.overlap)
        kept = torch.zeros_like(scores).index_put((selected[:, 0], selected[:, 2]), scores.new_ones(()))

        best, index = (scores * kept).topk(at_most(self.most, scores), dim=1)
        found = best > 0
        boxes = boxes.gather(1, index[..., None].expand(-1, -1, 4)) * found[..., None].to(boxes)
        return boxes, best, torch.where(found, labels.gather(1, index), torch.full_like(index, -1))

    def _candidates(self, level: Level, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and labels of the best pairs of place and class; what is not looked at has the score 0."""
        classes = level.scores.shape[2]
        scores = level.scores.flatten(1)
        if self.before:
            scores, pairs = scores.topk(at_most(self.before, scores), dim=1)
        else:
            pairs = torch.ones_like(scores, dtype=torch.int64).cumsum(dim=1) - 1
        places = torch.div(pairs, classes, rounding_mode='trunc')
        rows = places if level.boxes.shape[2] == 1 else pairs
        boxes = level.boxes.flatten(1, 2).gather(1, rows[..., None].expand(-1, -1, 4))

        valid = scores > self.least_score
        if self.least_side >= 0:
            valid = valid & ((boxes[..., 2:] - boxes[..., :2]) > self.least_side).all(dim=-1)
        if level.factors is not None:
            scores = scores * level.factors.gather(1, places)
        labels = torch.full_like(pairs, index) if self.by_level else pairs - places * classes
        return boxes, torch.where(valid, scores, torch.zeros_like(scores)), labels


def at_most(limit: int, values: Tensor) -> Any:
    """Return a number, or the length of the second axis if that is less; traced, the length stays a variable."""
    if not torch.jit.is_tracing():
        return min(limit, values.shape[1])
    return torch.minimum(torch._shape_as_tensor(values)[1], torch.tensor(limit))


class NonMaxSuppression(torch.autograd.Function):
    """ONNX's operator of this name, and its values in PyTorch."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, most: int, overlap: float) -> Tensor:
        """Return indices of image, class (0) and box of what is kept, int64 ``(S, 3)``.

        Args:
            ctx: PyTorch's.
            boxes: Corners, ``(N, M, 4)``.
            scores: ``(N, 1, M)``; those that are not above 0 are not looked at.
            most: How many are kept of an image.
            overlap: Of two boxes that overlap more, the one with the lower score goes.
        """
        rows = []
        for image, (own, (score,)) in enumerate(zip(boxes, scores, strict=True)):
            valid = (score > 0).nonzero().flatten()
            kept = valid[nms(own[valid], score[valid], overlap)[:most]]
            rows.append(torch.stack([torch.full_like(kept, image), torch.zeros_like(kept), kept], dim=1))
        return torch.cat(rows)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, most: int, overlap: float) -> Any:
        """Write the operator."""
        numbers = [torch.tensor([most]), torch.tensor([overlap]), torch.tensor([0.0])]
        return g.op('NonMaxSuppression', boxes, scores, *(g.op('Constant', value_t=number) for number in numbers))

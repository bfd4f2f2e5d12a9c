"""How far the outputs of a file are from PyTorch's: numbers relative to the greatest, detections box by box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .detectors import Detections
from .network import DetectionNetwork, Network

SAME_BOX = 0.05  # pixels
SAME_SCORE = 1e-3
SHARE = 0.99  # of detections and pixels: where two scores or overlaps are equal but for rounding, either may win


class Rows(NamedTuple):
    """Boxes of one image: ``(K, D)``, their scores ``(K, E)`` and labels ``(K,)``."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Agreement:
    """How a file's detections compare with PyTorch's.

    Attributes:
        number: Of PyTorch's detections, or of the file's if they are more.
        same: How many are in both, with the same label and nearly the same box and score.
        boxes: The greatest difference between their corners, in pixels.
        scores: That between their scores.
    """

    number: int = 0
    same: int = 0
    boxes: float = 0.0
    scores: float = 0.0

    @classmethod
    def of(cls, found: Rows, expected: Rows) -> Agreement:
        """Compare the boxes of one image: each of PyTorch's with the nearest of the file's that has its label."""
        number = max(len(found.labels), len(expected.labels))
        if not len(found.labels) or not len(expected.labels):
            return cls(number)
        boxes = torch.cdist(expected.boxes, found.boxes, p=torch.inf)
        scores = torch.cdist(expected.scores, found.scores, p=torch.inf)
        other = expected.labels[:, None] != found.labels
        far = (boxes / SAME_BOX + scores / SAME_SCORE).masked_fill(other, torch.inf)
        nearest = far.argmin(dim=1, keepdim=True)
        boxes, scores = (values.gather(1, nearest) for values in (boxes, scores))
        same = (boxes <= SAME_BOX) & (scores <= SAME_SCORE) & ~other.gather(1, nearest)
        greatest = [values[same].max().item() if same.any() else 0.0 for values in (boxes, scores)]
        return cls(number, int(same.sum()), *greatest)

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.number + other.number,
            self.same + other.same,
            max(self.boxes, other.boxes),
            max(self.scores, other.scores),
        )

    @property
    def holds(self) -> bool:
        """Whether all are the same, but for some that equal scores or overlaps decide."""
        return self.same >= SHARE * self.number


@torch.no_grad()
def compare(
    network: Network, found: Mapping[str, Tensor], images: Tensor, sizes: Tensor | None
) -> tuple[float, Agreement | None]:
    """Compare a file's outputs with those of a student.

    Args:
        network: The student, in eval mode and as it was.
        found: The outputs of the file, by name.
        images: What both were given.
        sizes: Heights and widths of the images without their padding, if both were told.

    Returns:
        The greatest difference relative to the greatest value of an output, infinite if shapes or classes differ; and of
        a detector's detections how far they agree.
    """
    given = (images,) if sizes is None else (images, sizes)
    expected = dict(zip(network.names, network(*given), strict=True))
    if not isinstance(network, DetectionNetwork):
        if 'classes' in expected and not _same_classes(found['classes'], expected['classes']):
            return float('inf'), None
        pairs = [(found[name], value) for name, value in expected.items() if name != 'classes']
        return max(relative(*pair) for pair in pairs), None
    everything = [(found[name], expected[name]) for name in network.names[:2]]
    agreement = _detections(network, found, images, sizes) if len(network.names) > 2 else None
    if network.detector.keeps_order:
        return max(relative(*pair) for pair in everything), agreement
    return _in_any_order(*everything), agreement


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the greatest difference relative to the greatest value; NaN if one is not a number."""
    if found.shape != expected.shape:
        return float('inf')
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()


def reference(student: Any, images: Tensor, sizes: Tensor | None) -> list[Rows]:
    """Return what mmdet's own prediction of a detector finds in images, an item for each."""
    from mmdet.structures import DetDataSample

    shapes = [images.shape[-2:]] * len(images) if sizes is None else sizes.int().tolist()
    metas = [dict(img_shape=tuple(shape), ori_shape=tuple(shape), scale_factor=(1.0, 1.0)) for shape in shapes]
    samples = student.predict(images, [DetDataSample(metainfo=meta) for meta in metas], rescale=False)
    found = [sample.pred_instances for sample in samples]
    return [Rows(getattr(one.bboxes, 'tensor', one.bboxes), one.scores[:, None], one.labels) for one in found]


def detections_in(found: Mapping[str, Tensor]) -> list[Rows]:
    """Return what a file found in images, an item for each: the rows that hold something."""
    detections = Detections(*(found[name] for name in Detections._fields))
    return [
        Rows(boxes[labels >= 0], scores[labels >= 0, None], labels[labels >= 0])
        for boxes, scores, labels in zip(*detections, strict=True)
    ]


def _detections(
    network: DetectionNetwork, found: Mapping[str, Tensor], images: Tensor, sizes: Tensor | None
) -> Agreement:
    pairs = zip(detections_in(found), reference(network.student, images, sizes), strict=True)
    return sum((Agreement.of(*pair) for pair in pairs), Agreement())


def _in_any_order(boxes: Sequence[Tensor], scores: Sequence[Tensor]) -> float:
    """Compare rows whose order rounding may change; infinite if too many are not the same."""
    if boxes[0].shape != boxes[1].shape or not all(pair.isfinite().all() for pair in (*boxes, *scores)):
        return float('inf')
    found, expected = (
        [Rows(*rows, torch.zeros(len(rows[0]))) for rows in zip(own.flatten(2), score, strict=True)]
        for own, score in zip(boxes, scores, strict=True)
    )
    total = sum((Agreement.of(*pair) for pair in zip(found, expected, strict=True)), Agreement())
    greatest = boxes[1].abs().max().clamp(min=1e-12).item()
    return max(total.boxes / greatest, total.scores) if total.holds else float('inf')


def _same_classes(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and (found == expected).float().mean().item() >= SHARE

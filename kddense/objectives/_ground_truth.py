"""The ground-truth boxes of a batch."""

from __future__ import annotations

from torch import Tensor

from kddense.exchange import Batch, ViewError
from kddense.views import ModelView, is_a


def check_boxes(student: ModelView, method: str) -> None:
    """Raise a ViewError unless the student is a detector, whose batches have boxes."""
    if not is_a(student.model, 'BaseDetector'):
        raise ViewError(
            f'{student.owner} ({type(student.model).__name__}) has no ground-truth boxes, by which {method} weighs '
            'places: it must be a detector of mmdet'
        )


def boxes_of(batch: Batch) -> list[Tensor]:
    """Return the ground-truth boxes of each image, ``(G, 4)`` in pixels of the student's input, on its device."""
    found = [sample.gt_instances.bboxes for sample in batch.data_samples]
    return [getattr(boxes, 'tensor', boxes).to(batch.inputs.device) for boxes in found]

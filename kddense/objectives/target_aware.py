"""Chang et al., DETRDistill, ICCV 2023: target-aware features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from kddense.exchange import Answer, Batch, QueryOpinion
from kddense.losses import query_quality, target_aware_distance, target_mask
from kddense.losses.detrdistill import check_quality
from kddense.registry import MODELS
from kddense.views import ModelView

from ._ground_truth import boxes_of
from .feature import FeatureObjective


@MODELS.register_module()
class TargetAwareObjective(FeatureObjective):
    """DETRDistill's features: compared where they are like what the teacher's decoder makes of its queries.

    A query counts the more, the surer the teacher is of its class and the better its box covers an object of the ground
    truth: see :func:`kddense.losses.query_quality`, :func:`kddense.losses.target_mask` and
    :func:`kddense.losses.target_aware_distance`. Summed over the teacher's decoder layers and over the levels.

    From the released code: the similarity, the mask, the sums, and the product of class and overlap as quality. The paper
    compares what encoders return, as here; the code what they read, ``tap='neck'``. The paper weighs the two parts of the
    quality by a γ, which ``gamma`` sets.

    Args:
        tap: Where to listen in the student, and by default in the teacher: where its maps have as many channels as its
            decoder's queries.
        top: How many of the most likely pairs of a query and a class count in an image.
        gamma: The paper's γ, of classes against overlaps; ``None`` for the product of both.
        **kwargs: See :class:`FeatureObjective`, without ``connect`` and ``resize``: maps of the student are made like the
            teacher's.

    Raises:
        ValueError: If an option is out of its range; at build also if maps and queries of the teacher have different
            channels.
    """

    kinds = frozenset({'predictions'})

    def __init__(self, tap: str = 'encoder', top: int = 100, gamma: float | None = None, **kwargs: Any) -> None:
        for fixed in ('connect', 'resize'):
            if fixed in kwargs:
                raise ValueError(f"{fixed} is always 'student': the teacher's maps are compared with its queries")
        super().__init__(tap=tap, **kwargs)
        check_quality(top, gamma)
        self.top = top
        self.gamma = gamma

    def bind_pair(self, own: Tensor, other: Tensor) -> None:
        if own.dim() != 4 or other.dim() != 4:
            raise ValueError(f'target-aware features are maps, got {own.dim()} and {other.dim()} dimensions; tap maps')
        super().bind_pair(own, other)

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        wide = teacher.probe_opinions('predictions')[0].states.shape[-1]
        found = {one.shape[1] for one in self.chosen(self.probed(teacher, 'teacher'), 'teacher')} - {wide}
        if found:
            raise ValueError(
                f"tap '{self.teacher_tap}' has maps of {min(found)} channels in the teacher, and its decoder queries of "
                f"{wide}: tap 'encoder' or 'neck'"
            )

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        (opinion,) = taught.opinions['predictions']
        assert seen.batch is not None
        qualities = self._qualities(opinion, seen.batch)
        losses = [
            target_aware_distance(own, other, target_mask(other, states, quality))
            for own, other in self.pairs(seen, taught)
            for states, quality in zip(opinion.states.unbind(1), qualities, strict=True)
        ]
        return {'loss': sum(losses[1:], losses[0])}

    @torch.no_grad()
    def _qualities(self, opinion: QueryOpinion, batch: Batch) -> list[Tensor]:
        """Return how much each query counts, ``(N, Q)`` for each decoder layer of the teacher."""
        classes = opinion.logits.sigmoid() if opinion.sigmoid else opinion.logits.softmax(-1)[..., :-1]
        sizes = [sample.img_shape[:2] for sample in batch.data_samples]
        overlaps = torch.stack([_overlaps(*image) for image in zip(opinion.boxes, boxes_of(batch), sizes, strict=True)])
        layers = zip(classes.unbind(1), overlaps.unbind(1), strict=True)
        return [query_quality(*layer, self.top, self.gamma) for layer in layers]


def _overlaps(boxes: Tensor, objects: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the IoU of each query's box with the object that it covers best.

    Args:
        boxes: Centre and size relative to the image, shape ``(L, Q, 4)``.
        objects: Corners in pixels, shape ``(G, 4)``.
        size: Height and width of the image, in pixels.

    Returns:
        Shape ``(L, Q)``; 1 where there is no object.
    """
    if not len(objects):
        return torch.ones_like(boxes[..., 0])
    height, width = size
    corners = box_convert(boxes.flatten(0, 1), 'cxcywh', 'xyxy') * boxes.new_tensor([width, height, width, height])
    return box_iou(corners, objects.to(boxes)).nan_to_num(0).amax(1).unflatten(0, boxes.shape[:2])

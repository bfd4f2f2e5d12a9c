"""Dai et al., General Instance Distillation for Object Detection, CVPR 2021."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kddense.exchange import Answer, DenseOpinion, DenseSample
from kddense.losses import general_instances, instance_distance, instance_relation, near_instances, response_distance
from kddense.losses._checks import check_not_negative, check_positive
from kddense.registry import MODELS
from kddense.views import ModelView, is_a

from ._box_features import finest_stride, level_crops, level_of
from .base import share_of_process
from .feature import FeatureObjective
from .maps import MapObjective

TERMS = ('feature', 'relation', 'cls', 'box')


@MODELS.register_module()
class GIDObjective(FeatureObjective):
    """GID: features, relations and responses of the boxes about which the two networks differ most.

    Those may be positives, negatives, or neither: the ground truth is not asked. For how they are found see
    :func:`kddense.losses.general_instances`. For one-stage detectors, with the same anchors or points, box coder and classes
    on both sides. Counts are averaged over the processes of a distributed training.

    * ``loss_feature``: squared differences of what the pyramid holds of them, pooled to ``cells`` x ``cells`` places of the
      level that suits their size; a sum over channels, averaged over places and instances.
    * ``loss_relation``: their distances to one another, see :func:`kddense.losses.instance_relation`. Under data
      parallelism each process relates its own.
    * ``loss_cls``, ``loss_box``: binary cross-entropy towards the teacher's classes, and absolute differences of boxes in
      the head's own space, at the anchors that belong to instances (see :func:`kddense.losses.near_instances`); sums,
      averaged over these anchors. Of heads without anchors, the points inside instances in the level that suits their size.

    Args:
        tap: The pyramid, see :class:`FeatureObjective`.
        feature: Weight of ``loss_feature``. All defaults are those of a port by an author.
        relation: Weight of ``loss_relation``.
        classes: Weight of ``loss_cls``.
        boxes: Weight of ``loss_box``.
        most: How many instances an image has at most.
        overlap: IoU above which the lesser of two instances is left out.
        candidates: How many places of an image are looked at.
        smallest: Sides in pixels of the input above which an instance counts.
        threshold: IoU from which an anchor belongs to an instance.
        cells: Into how many rows and columns an instance is divided.
        connector: The adaptation layer, one for all levels; a 3x3 convolution by default, also where channels agree.
        weight: Scales all of it. See :class:`Objective`.
        **kwargs: See :class:`FeatureObjective`.
    """

    kinds = frozenset({'dense'})
    loss_names = tuple(f'loss_{term}' for term in TERMS)

    def __init__(
        self,
        tap: str | None = None,
        feature: float = 0.005,
        relation: float = 40.0,
        classes: float = 0.1,
        boxes: float = 0.1,
        most: int = 10,
        overlap: float = 0.3,
        candidates: int = 3000,
        smallest: float = 10.0,
        threshold: float = 0.5,
        cells: int = 10,
        connector: str | Mapping[str, Any] | None = None,
        weight: float | str | Mapping[str, Any] = 1.0,
        **kwargs: Any,
    ) -> None:
        connector = dict(type='kddense.Connector', kernel_size=3) if connector is None else connector
        super().__init__(tap=tap, connector=connector, weight=weight, **kwargs)
        self.weights = dict(feature=feature, relation=relation, classes=classes, boxes=boxes)
        for name, value in self.weights.items():
            check_not_negative(name, value)
        for name, value in (('most', most), ('candidates', candidates), ('cells', cells)):
            check_positive(name, value)
        check_not_negative('smallest', smallest)
        for name, share in (('overlap', overlap), ('threshold', threshold)):
            if not 0 <= share <= 1:
                raise ValueError(f'{name} must be between 0 and 1, got {share}')
        self.found_by: dict[str, Any] = dict(most=most, overlap=overlap, candidates=candidates, smallest=smallest)
        self.threshold = threshold
        self.cells = cells
        self._coder: Any = None
        self._channels = (0, 0)

    @property
    def is_off(self) -> bool:
        return super().is_off or not any(self.weights.values())

    @property
    def compares_classes(self) -> bool:
        return True

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        student.check('dense')
        self._coder = student.model.bbox_head.bbox_coder
        super().bind(student, teacher)

    def bind_pair(self, own: Tensor, other: Tensor) -> None:
        if own.dim() != 4 or other.dim() != 4:
            raise ValueError(f'GID compares maps, got {own.dim()} and {other.dim()} dimensions; tap maps on both sides')
        if not self.connectors:
            self._channels = (own.shape[1], other.shape[1])
            super().bind_pair(own, other)
        elif self._channels != (own.shape[1], other.shape[1]):
            raise ValueError(
                f'GID has one adaptation layer for all levels, and they have {self._channels[0]} and {own.shape[1]} '
                "channels: tap a pyramid, such as 'neck'"
            )

    def layer_between(self, own: Tensor, other: Tensor) -> nn.Module | None:
        return MapObjective.layer_between(self, own, other)  # a loss of features, which has no dimension of classes

    def connected(self, maps: list[Tensor]) -> list[Tensor]:
        return [self.connectors[0](level) for level in maps]

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        (sample,), (own,), (other,) = seen.samples['dense'], seen.opinions['dense'], taught.opinions['dense']
        assert seen.batch is not None
        images = [tuple(one.img_shape[:2]) for one in seen.batch.data_samples]
        everywhere = torch.arange(len(images) * len(sample.priors), device=sample.priors.device)
        ours, theirs = (self._responses(side, everywhere) for side in (own, other))
        instances = self._instances(sample, ours, theirs, images)
        feature, relation = self._features(seen, taught, instances)
        places = torch.cat([self._belonging(sample, one) for one in instances]).nonzero().squeeze(1)
        responses = [(logits[places], boxes[places]) for logits, boxes in (ours, theirs)]
        classes, boxes = response_distance(*responses)
        counts = torch.tensor([float(sum(map(len, instances))), float(len(places))], device=places.device)
        of_instances, of_places = share_of_process(counts, counts)
        terms = (feature * of_instances, relation, classes * of_places, boxes * of_places)
        return {
            name: weight * term
            for name, weight, term in zip(self.loss_names, self.weights.values(), terms, strict=True)
        }

    @staticmethod
    def _responses(opinion: DenseOpinion, places: Tensor) -> tuple[Tensor, Tensor]:
        return opinion.logits_at(places), opinion.deltas_at(places)

    @torch.no_grad()
    def _instances(
        self, sample: DenseSample, ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], images: list[Any]
    ) -> list[Tensor]:
        """Return the instances of each image, ``(M, 4)`` in pixels."""
        count = len(sample.priors)
        found = []
        for number, image in enumerate(images):
            rows = slice(number * count, (number + 1) * count)
            sides = [(logits[rows], self._decoded(sample, boxes[rows])) for logits, boxes in (ours, theirs)]
            found.append(general_instances(sides[0], sides[1], image, **self.found_by))
        return found

    def _decoded(self, sample: DenseSample, boxes: Tensor) -> Tensor:
        """Return one image's boxes at all places in pixels."""
        priors = sample.priors
        if not is_a(self._coder, 'DistancePointBBoxCoder'):
            return self._coder.decode(priors, boxes)
        points = (priors[:, :2] + priors[:, 2:]) / 2 if priors.shape[1] == 4 else priors
        strides = torch.tensor(sample.strides, device=boxes.device)[sample.levels]
        return self._coder.decode(points, boxes * strides[:, None])

    def _features(self, seen: Answer, taught: Answer, instances: list[Tensor]) -> tuple[Tensor, Tensor]:
        assert seen.batch is not None
        rois = torch.cat(
            [torch.cat([one.new_full((len(one), 1), number), one], dim=1) for number, one in enumerate(instances)]
        )
        width = seen.batch.inputs.shape[-1]
        crops = []
        for maps in zip(*self.pairs(seen, taught), strict=True):
            levels, order = level_crops(maps, rois, width, finest_stride(maps, width), self.cells)
            crops.append(torch.cat(levels)[order])
        return instance_distance(*crops), instance_relation(*crops)

    def _belonging(self, sample: DenseSample, instances: Tensor) -> Tensor:
        """Return which places of an image belong to its instances, boolean, ``(L,)``."""
        if sample.priors.shape[1] == 4:
            return near_instances(sample.priors, instances, self.threshold)
        points = sample.priors[:, None]
        inside = ((points >= instances[:, :2]) & (points <= instances[:, 2:])).all(dim=2)
        suits = level_of(instances, len(sample.strides), sample.strides[0])
        return (inside & (sample.levels[:, None] == suits)).any(dim=1)

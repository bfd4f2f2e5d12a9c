"""Yang, Zhou, An, Jiang, Xu, Zhang, Cross-Image Relational Knowledge Distillation for Semantic Segmentation, CVPR 2022."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.exchange import Answer
from kddense.losses import CrossImageLoss, memory_divergence
from kddense.losses._checks import check_not_negative
from kddense.models import ClassQueue
from kddense.models.class_queue import ranks
from kddense.registry import MODELS
from kddense.views import ModelView

from ._labels import PlaceLabels
from .base import share_of_process
from .places import PlaceObjective

# Before a classifier, as in the paper, and for each level of a pyramid.
DEFAULTS = {
    'pixel_queue': (20000, 1000),
    'region_queue': (2000, 100),
    'pixel_samples': (4096, 1024),
    'region_samples': (1024, 256),
    'max_places': (4096, 256),
}


@MODELS.register_module()
class CIRKDObjective(PlaceObjective):
    """CIRKD: how the places of an image resemble those of other images, of the batch and of memory.

    * ``loss_batch``: see :func:`kddense.losses.cross_image_divergence`.
    * ``loss_pixel``, ``loss_region``: see :func:`kddense.losses.memory_divergence`; what is remembered are features of the
      teacher at single places, and means over all places of a class in an image, by the ground truth.

    The student's places reach the teacher's space through two 1x1 convolutions with a batch norm and a ReLU between. The
    paper adds soft targets of the pixels, with weight 1. Its models are segmentors; what classes the places of others
    have, :class:`IFVDObjective` tells. Each level of a pyramid has queues of its own.

    The released code fills its queues of pixels with the first places of an image, whatever their class: it takes positions
    within a class for positions in the image. Here they are places of the class. It also draws from rows of its queues that
    were never written; here only written ones count.

    Args:
        tap: See :class:`PlaceObjective`: by default the paper's place, before the last classifier.
        temperature: The paper's τ.
        batch: Weight of ``loss_batch``.
        pixel: Weight of ``loss_pixel``.
        region: Weight of ``loss_region``.
        pixel_queue: How many features of places are remembered of each class: by default 20000, the paper's, before a
            classifier, and 1000 for each level of a pyramid.
        region_queue: The same of regions: 2000, and 100.
        pixels_per_image: How many places of a class an image adds at most.
        pixel_samples: With how many remembered features a place is compared, of all classes together: by default 4096, the
            paper's, before a classifier, and 1024 for each level of a pyramid.
        region_samples: The same of regions: 1024, and 256.
        max_places: Larger maps are averaged over squares of places, as small as leaves no more places than so many: by
            default 4096 before a classifier, and 256 for a level of a pyramid, of which there are several.
        intervals: Of depth estimators, into how many classes the range of depths is divided.
        weight: Scales all three.
        **kwargs: See :class:`FeatureObjective`.
    """

    loss_names = ('loss_batch', 'loss_pixel', 'loss_region')

    def __init__(
        self,
        tap: str | None = None,
        temperature: float = 0.1,
        batch: float = 1.0,
        pixel: float = 0.1,
        region: float = 0.1,
        pixel_queue: int | None = None,
        region_queue: int | None = None,
        pixels_per_image: int = 16,
        pixel_samples: int | None = None,
        region_samples: int | None = None,
        max_places: int | None = None,
        intervals: int = 8,
        weight: float | str | Mapping[str, Any] = 1.0,
        **kwargs: Any,
    ) -> None:
        loss = dict(type='kddense.CrossImageLoss', temperature=temperature)
        super().__init__(tap=tap, loss=loss, weight=weight, **kwargs)
        for name, share in (('batch', batch), ('pixel', pixel), ('region', region)):
            check_not_negative(name, share)
        self.sizes = dict(pixel_queue=pixel_queue, region_queue=region_queue, max_places=max_places)
        self.sizes.update(pixel_samples=pixel_samples, region_samples=region_samples)
        for name, count in dict(self.sizes, pixels_per_image=pixels_per_image).items():
            if count is not None and count < 1:
                raise ValueError(f'{name} must be at least 1, got {count}')
        assert isinstance(self.loss, CrossImageLoss)
        self.shares = dict(loss_batch=batch, loss_pixel=pixel, loss_region=region)
        self.pixels_per_image = pixels_per_image
        self.intervals = intervals
        self.labels: Any = None
        self.projectors = nn.ModuleList()
        self.pixel_queues: Any = nn.ModuleList()
        self.region_queues: Any = nn.ModuleList()

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        self.labels = PlaceLabels(student, self.intervals)
        super().bind(student, teacher)
        queues = self._size('pixel_queue') + self._size('region_queue')
        channels = [queue.vectors.shape[2] for queue in self.pixel_queues]
        size = 4 * self.labels.classes * queues * sum(channels)
        print_log(
            f'CIRKD remembers up to {queues} features of {self.labels.classes} classes each, of {channels} '
            f'channels: {size / 2**20:.0f} MB at most, growing as it fills (pixel_queue, region_queue)',
            logger='current',
        )

    def bind_pair(self, own: Tensor, other: Tensor) -> None:
        super().bind_pair(own, other)
        if own.dim() != 4 or other.dim() != 4:
            raise ValueError(
                f'CIRKD compares maps, got {own.dim()} and {other.dim()} dimensions; tap maps on both sides'
            )
        width = other.shape[1]
        self.projectors.append(
            nn.Sequential(
                nn.Conv2d(own.shape[1], width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, width, 1, bias=False),
            )
        )
        self.pixel_queues.append(ClassQueue(self.labels.classes, self._size('pixel_queue'), width))
        self.region_queues.append(ClassQueue(self.labels.classes, self._size('region_queue'), width))

    def _size(self, name: str) -> int:
        given, (paper, level) = self.sizes[name], DEFAULTS[name]
        return given or (paper if self.at_classifier else level)

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        pairs = self.pairs(seen, taught)
        levels = [self._level(index, seen, own, other) for index, (own, other) in enumerate(pairs)]
        totals = {name: torch.stack([one[name] for one in levels]).mean() for name in self.loss_names}
        return {name: self.shares[name] * total for name, total in totals.items()}

    def _level(self, index: int, seen: Answer, own: Tensor, other: Tensor) -> dict[str, Tensor]:
        own, other = self._pooled(own), self._pooled(other)
        labels = self.labels.at(seen.batch, own.shape[-2:])
        self._remember(index, other, labels)
        known = labels >= 0
        ours, theirs = (side.movedim(1, -1)[known] for side in (self.projectors[index](own), other))
        losses = {'loss_batch': self.loss(own, other)}
        share = share_of_process(len(ours), own)
        for kind, queues in (('pixel', self.pixel_queues), ('region', self.region_queues)):
            remembered = queues[index].sample(math.ceil(self._size(f'{kind}_samples') / self.labels.classes))
            losses[f'loss_{kind}'] = share * memory_divergence(ours, theirs, remembered, self.loss.temperature)
        return losses

    def _pooled(self, maps: Tensor) -> Tensor:
        side = 1
        while math.ceil(maps.shape[2] / side) * math.ceil(maps.shape[3] / side) > self._size('max_places'):
            side += 1
        return maps if side == 1 else F.avg_pool2d(maps, side, ceil_mode=True)

    @torch.no_grad()
    def _remember(self, index: int, features: Tensor, labels: Tensor) -> None:
        units = F.normalize(features.float(), dim=1).movedim(1, -1).flatten(0, 2)
        # What is chosen is found on the CPU, so that a GPU is waited for once and not for each class of each image.
        labels = labels.cpu()
        group = (labels + self.labels.classes * torch.arange(len(labels)).view(-1, 1, 1)).flatten()
        known = (labels.flatten() >= 0).nonzero().flatten()
        known = known[torch.randperm(len(known))]
        known = known[group[known].argsort(stable=True)]
        present, number = group[known].unique_consecutive(return_counts=True)
        classes, region = present % self.labels.classes, torch.arange(len(present)).repeat_interleave(number)
        vectors = units[known.to(units.device)]
        chosen = ranks(number) < self.pixels_per_image
        self.pixel_queues[index].add(classes[region[chosen]], vectors[chosen.to(units.device)])
        sums = units.new_zeros(len(present), units.shape[1]).index_add_(0, region.to(units.device), vectors)
        self.region_queues[index].add(classes, F.normalize(sums, dim=1))

"""Zheng et al., Localization Distillation for Dense Object Detection, CVPR 2022 (extended in TPAMI 2023).

For detectors whose head predicts distributions of distances, GFL's: where exactly an edge may lie is knowledge that a box
alone does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kddense.exchange import Answer, DenseOpinion, DenseSample, ViewError
from kddense.losses import LDLoss, atss_thresholds, soft_target_divergence, valuable_region
from kddense.losses._checks import check_choice, check_not_negative, check_positive
from kddense.registry import MODELS
from kddense.views import DenseHeadView, ModelView

from .base import Objective, mean_over_processes, share_of_process

CODE_REGION_AVERAGE = 4  # the authors divide the sum over the region's edges by 16, where that of the main one is by 4


@MODELS.register_module()
class LDObjective(Objective):
    """Localization distillation at the student's positives (the main region) and around them (the valuable region).

    The main region's boxes weigh as much as the student's own greatest class score, held fixed, as in GFL's own box losses;
    those of the valuable region, see :func:`kddense.losses.valuable_region`, as much as their IoU with a ground-truth box.

    Args:
        mode: ``'paper'``: divergences, weighted means over a region's boxes (of all processes); the paper prints no
            divisor, so it is that of GFL's own box losses: the sum of the weights, at least 1. ``'code'``, as the authors'
            and mmdet's LDHead: means over the bins, and sums over the boxes of one process, so that the strength grows
            with the batch; edges of the valuable region count a quarter, and the region is the authors', see
            :func:`kddense.losses.valuable_region`.
        temperature: The paper's τ for distances.
        main_weight: Weight of the main region.
        region_weight: Weight of the valuable region; 0 leaves it out.
        class_weight: Weight of classification distillation at the positives: Hinton's soft targets, averaged over
            positives. Off by default. The authors' configs have 10 with ``mode='code'``, which averages over classes too.
        class_temperature: Softens the classes.
        topk: How many anchors of a level are candidates of ATSS, which decides how far the valuable region reaches: the
            ``topk`` of the student's own assigner.
        weight: Scales all of it. See :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    kinds = frozenset({'dense'})
    of_labelled = True

    def __init__(
        self,
        mode: str = 'paper',
        temperature: float = 10.0,
        main_weight: float = 0.25,
        region_weight: float = 0.25,
        class_weight: float = 0.0,
        class_temperature: float = 2.0,
        topk: int = 9,
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        check_choice('mode', mode, ('paper', 'code'))
        for name, value in (('main', main_weight), ('region', region_weight), ('class', class_weight)):
            check_not_negative(f'{name}_weight', value)
        for name, value in (('class_temperature', class_temperature), ('topk', topk)):
            check_positive(name, value)
        self.mode = mode
        self.loss = LDLoss(temperature=temperature, mode=mode)
        self.main_weight = main_weight
        self.region_weight = region_weight
        self.class_weight = class_weight
        self.class_temperature = class_temperature
        self.topk = topk

    @property
    def loss_names(self) -> tuple[str, ...]:  # type: ignore[override]
        parts = dict(loss_main=self.main_weight, loss_region=self.region_weight, loss_cls=self.class_weight)
        return tuple(name for name, weight in parts.items() if weight > 0)

    @property
    def compares_classes(self) -> bool:
        return self.class_weight > 0

    @property
    def is_off(self) -> bool:
        return super().is_off or not (self.main_weight or self.region_weight or self.class_weight)

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        if not isinstance(student, DenseHeadView) or student.reg_max is None:
            raise ViewError(
                f'{student.owner} ({type(student.model).__name__}) learns no distributions of distances to compare: '
                'localization distillation needs detectors with a GFLHead'
            )

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        (sample,), (own,), (other,) = (side['dense'] for side in (seen.samples, seen.opinions, taught.opinions))
        losses = {}
        if self.main_weight > 0:
            losses['loss_main'] = self.main_weight * self._main(sample, own, other)
        if self.region_weight > 0:
            losses['loss_region'] = self.region_weight * self._region(sample, own, other)
        if self.class_weight > 0:
            losses['loss_cls'] = self.class_weight * self._classes(sample, own, other)
        return losses

    def _main(self, sample: DenseSample, own: DenseOpinion, other: DenseOpinion) -> Tensor:
        index = sample.index[sample.positive]
        weight = own.logits_at(index).detach().sigmoid().amax(dim=1)
        average = 1.0 if self.mode == 'code' else self._sum_of(weight)
        return self.loss(own.distributions_at(index), other.distributions_at(index), weight, average)

    def _region(self, sample: DenseSample, own: DenseOpinion, other: DenseOpinion) -> Tensor:
        rows, weight = region_of(sample, self.topk, self.mode)
        index = sample.index[rows]
        average = CODE_REGION_AVERAGE if self.mode == 'code' else self._sum_of(weight)
        return self.loss(own.distributions_at(index), other.distributions_at(index), weight, average)

    @staticmethod
    def _sum_of(weight: Tensor) -> Tensor:
        return mean_over_processes(weight.sum(), weight).clamp(min=1)

    def _classes(self, sample: DenseSample, own: DenseOpinion, other: DenseOpinion) -> Tensor:
        index = sample.index[sample.positive]
        student, teacher = own.logits_at(index), other.logits_at(index)
        mean = soft_target_divergence(student, teacher, self.class_temperature)
        if self.mode == 'code':
            return mean / student.shape[1]
        return mean * share_of_process(len(index), mean)


def region_of(sample: DenseSample, topk: int = 9, mode: str = 'paper') -> tuple[Tensor, Tensor]:
    """Return the valuable region of a batch: which rows of ``sample.index``, and their weights."""
    per_image = len(sample.priors)
    image = sample.index.div(per_image, rounding_mode='floor')
    weights = [
        _weights_of(sample, sample.index[image == number] - number * per_image, boxes, topk, mode)
        for number, boxes in enumerate(sample.ground_truth)
    ]
    weight = torch.cat(weights)
    rows = weight.nonzero().squeeze(1)
    return rows, weight[rows]


def _weights_of(sample: DenseSample, places: Tensor, boxes: Tensor, topk: int, mode: str) -> Tensor:
    """Return the weights of one image's places, anchors that count all of them."""
    anchors = sample.priors[places]
    level_ends = torch.tensor([height * width for height, width in sample.level_sizes], device=places.device).cumsum(0)
    ends = torch.searchsorted(places, level_ends).tolist()
    counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    return valuable_region(anchors, boxes, atss_thresholds(anchors, boxes, counts, topk), mode=mode)

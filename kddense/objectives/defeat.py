"""Guo et al., Distilling Object Detectors via Decoupled Features, CVPR 2021."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kddense.exchange import Answer, RoISample
from kddense.losses import covered_mask, soft_target_divergence
from kddense.losses._checks import check_not_negative, check_positive
from kddense.registry import MODELS
from kddense.views import ModelView

from ._box_features import finest_stride, level_of
from ._ground_truth import boxes_of, check_boxes
from .base import Objective, mean_over_processes, share_of_process
from .feature import FeatureObjective


@MODELS.register_module()
class DeFeatObjective(FeatureObjective):
    """DeFeat's features: foreground and background are imitated apart, each with a weight of its own.

    A ground-truth box is foreground in the level of the pyramid that suits its size, as RoIs are pooled; see
    :func:`kddense.losses.decoupled_distance`. Both terms are averaged over the places of a level (of all processes), then
    over the levels.

    Args:
        tap: See :class:`FeatureObjective`.
        foreground: Weight of ``loss_foreground``.
        background: Weight of ``loss_background``.
        connector: The adaptation layer, by default a 3x3 convolution at each level, also where channels agree.
        weight: Scales both. See :class:`Objective`.
        **kwargs: See :class:`FeatureObjective`.
    """

    of_labelled = True
    loss_names = ('loss_foreground', 'loss_background')

    def __init__(
        self,
        tap: str | None = None,
        foreground: float = 3.0,
        background: float = 12.0,
        connector: str | Mapping[str, Any] | None = None,
        weight: float | str | Mapping[str, Any] = 1.0,
        **kwargs: Any,
    ) -> None:
        connector = dict(type='kddense.Connector', kernel_size=3) if connector is None else connector
        super().__init__(tap=tap, loss=dict(type='kddense.DecoupledLoss'), connector=connector, weight=weight, **kwargs)
        self.weights = (foreground, background)
        for name, value in (('foreground', foreground), ('background', background)):
            check_not_negative(name, value)

    @property
    def is_off(self) -> bool:
        return super().is_off or not any(self.weights)

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        check_boxes(student, 'DeFeat')
        super().bind(student, teacher)

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        pairs = self.pairs(seen, taught)
        masks = self._masks(seen, [(own.shape[2], own.shape[3]) for own, _ in pairs])
        counts = torch.stack([torch.stack([mask.sum(), (~mask).sum()]) for mask in masks])
        averages = mean_over_processes(counts, counts).clamp(min=1)
        levels = [
            self.loss(*pair, mask, tuple(average)) for pair, mask, average in zip(pairs, masks, averages, strict=True)
        ]
        means = [sum(terms) / len(levels) for terms in zip(*levels, strict=True)]
        return {name: weight * mean for name, weight, mean in zip(self.loss_names, self.weights, means, strict=True)}

    def _masks(self, seen: Answer, sizes: list[tuple[int, int]]) -> list[Tensor]:
        """Return for each level that is compared its foreground, boolean, ``(N, 1, h, w)``."""
        assert seen.batch is not None
        height, width = seen.batch.inputs.shape[-2:]
        levels = self.items(seen, 'student')
        numbers = self.chosen(range(len(levels)), 'student')
        boxes = boxes_of(seen.batch)
        suits = [level_of(one, len(levels), finest_stride(levels, width)) for one in boxes]
        return [
            torch.stack(
                [
                    covered_mask(one[level == number], (height, width), size)
                    for one, level in zip(boxes, suits, strict=True)
                ]
            ).unsqueeze(1)
            for number, size in zip(numbers, sizes, strict=True)
        ]


@MODELS.register_module()
class DeFeatClassObjective(Objective):
    """DeFeat's classes: soft targets of the RoI head, of positive and of negative RoIs apart.

    Each is averaged over its RoIs (of all processes), and summed over the stages of a cascade. The RoIs are those that the
    student sampled; by default the authors take the teacher's.

    Args:
        positive: Weight of ``loss_positive``.
        negative: Weight of ``loss_negative``.
        temperature: Softens the classes.
        **kwargs: See :class:`Objective`.
    """

    kinds = frozenset({'roi'})
    of_labelled = True
    loss_names = ('loss_positive', 'loss_negative')

    def __init__(self, positive: float = 2.0, negative: float = 2.0, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weights = (positive, negative)
        for name, value in (('positive', positive), ('negative', negative)):
            check_not_negative(name, value)
        check_positive('temperature', temperature)
        self.temperature = temperature

    @property
    def is_off(self) -> bool:
        return super().is_off or not any(self.weights)

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        stages = [
            self._stage(sample, own.logits, other.logits)
            for sample, own, other in zip(
                seen.samples['roi'], seen.opinions['roi'], taught.opinions['roi'], strict=True
            )
        ]
        sums = [sum(terms[1:], terms[0]) for terms in zip(*stages, strict=True)]
        return {name: weight * one for name, weight, one in zip(self.loss_names, self.weights, sums, strict=True)}

    def _stage(self, sample: RoISample, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        positive = torch.zeros(len(own), dtype=torch.bool, device=own.device)
        positive[sample.positive] = True
        return self._mean(sample, own, other, positive), self._mean(sample, own, other, ~positive)

    def _mean(self, sample: RoISample, own: Tensor, other: Tensor, rows: Tensor) -> Tensor:
        mean = soft_target_divergence(own[rows], other[rows], self.temperature)
        return sample.weight * mean * share_of_process(rows.sum(), mean)

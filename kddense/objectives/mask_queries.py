"""Masks of queries: DETRDistill's matching (Chang et al., ICCV 2023) for MaskFormer and Mask2Former."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from kddense.connectors import match_size
from kddense.exchange import Answer, MaskQueryOpinion
from kddense.losses import MaskQueryDistance, match_masks, matched_mask_distance
from kddense.losses._checks import check_not_negative
from kddense.registry import MODELS
from kddense.views import ModelView

from .base import Objective, mean_over_processes

TERMS = ('loss_cls', 'loss_mask', 'loss_dice')


@MODELS.register_module()
class MaskQueryObjective(Objective):
    """The teacher's queries are targets beside the ground truth, each matched with one of the student's by the Hungarian
    algorithm, decoder layer by decoder layer; see :func:`kddense.losses.matched_mask_distance`.

    Things and stuff are queries alike. Masks of other sizes are resized to the student's. Masks count as much as the
    teacher's greatest class probability that is no background. No paper has this for masks: the form is DETRDistill's, the
    weights are those that Mask2Former gives to its own losses and costs.

    Args:
        layers: ``'each'`` compares layer by layer, ``'last'`` each layer of the student with the teacher's last.
        costs: What classes, cells and Dice count in the matching.
        cls_weight: Of classes.
        mask_weight: Of cells.
        dice_weight: Of the Dice distance.
        weight: See :class:`Objective`: of all three.
        teacher: See :class:`Objective`.

    Raises:
        ValueError: If an option is out of its range; at build also if the numbers of layers differ.
    """

    kinds = frozenset({'mask_queries'})
    compares_classes = True

    def __init__(
        self,
        layers: Literal['each', 'last'] = 'each',
        costs: Sequence[float] = (2.0, 5.0, 5.0),
        cls_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        if len(costs) != 3:
            raise ValueError(f'costs must be three numbers, of classes, cells and Dice, got {list(costs)}')
        self.layers = layers
        self.costs = costs
        self.factors = dict(zip(TERMS, (cls_weight, mask_weight, dice_weight), strict=True))
        for name, factor in (*self.factors.items(), *(('costs', cost) for cost in costs)):
            check_not_negative(name.replace('loss_', '') + ('' if name == 'costs' else '_weight'), factor)
        if not any(self.factors.values()):
            raise ValueError('cls_weight, mask_weight and dice_weight are all 0: leave this objective out')
        self.loss_names = tuple(name for name, factor in self.factors.items() if factor > 0)

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        own, other = (len(view.probe_opinions('mask_queries')[0].logits) for view in (student, teacher))
        if self.layers == 'each' and own != other:
            raise ValueError(
                f'the decoder of the student speaks {own} times, that of the teacher {other} times, which cannot be '
                "compared layer by layer: set layers='last'"
            )

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        (own,), (other,) = seen.opinions['mask_queries'], taught.opinions['mask_queries']
        sums = [sum(terms[1:], terms[0]) for terms in zip(*self._distances(own, other), strict=True)]
        by_term = dict(zip(TERMS, sums, strict=True))
        return {name: self.factors[name] * by_term[name] for name in self.loss_names}

    def _distances(self, own: MaskQueryOpinion, other: MaskQueryOpinion) -> Iterator[MaskQueryDistance]:
        for layer, (logits, masks) in enumerate(zip(own.logits, own.masks, strict=True)):
            taught_by = layer if self.layers == 'each' else -1
            masks, targets = match_size(masks, other.masks[taught_by], 'teacher')
            yield self._distance(logits, masks, other.logits[taught_by], targets)

    def _distance(self, logits: Tensor, masks: Tensor, target_logits: Tensor, targets: Tensor) -> MaskQueryDistance:
        found = [match_masks(*image, self.costs) for image in zip(logits, masks, target_logits, targets, strict=True)]
        rows = torch.cat([own + image * logits.shape[1] for image, (own, _) in enumerate(found)])
        columns = torch.cat([other + image * target_logits.shape[1] for image, (_, other) in enumerate(found)])
        taught = target_logits.flatten(0, 1)[columns]
        weight = taught.softmax(-1)[:, :-1].amax(-1)
        divisors = mean_over_processes(len(rows), weight), mean_over_processes(weight.sum(), weight)
        return matched_mask_distance(
            logits.flatten(0, 1)[rows],
            masks.flatten(0, 1)[rows],
            taught,
            targets.flatten(0, 1)[columns],
            weight,
            divisors,
        )

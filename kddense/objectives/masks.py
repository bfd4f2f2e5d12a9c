"""Masks of instances, towards the teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kddense.exchange import Answer, MaskOpinion
from kddense.losses import dice_distance, sigmoid_soft_target_divergence
from kddense.losses._checks import check_not_negative
from kddense.registry import MODELS
from kddense.views import ModelView

from .base import Objective, share_of_process


@MODELS.register_module()
class MaskObjective(Objective):
    """Soft masks: for each positive RoI of the student, the cells of its mask against those of the teacher's.

    ``loss_mask`` is the divergence of each cell's yes or no, :func:`kddense.losses.sigmoid_soft_target_divergence` at
    temperature 1, averaged over cells and RoIs of all processes; ``loss_dice`` is :func:`kddense.losses.dice_distance`,
    averaged over RoIs. Stages of a cascade are added up with the weights of their own losses. The teacher draws its masks
    from its own features, so that its backbone and neck are free; both heads must draw masks of one size. Where heads draw
    one mask for each class, that of the RoI's true class is compared.

    No paper has this alone; the form is that of soft targets (Hinton et al. 2015) for each cell, and weights are our own.

    Args:
        mask_weight: Of the divergence.
        dice_weight: Of the Dice distance; 0 leaves it out.
        weight: See :class:`Objective`: of both.
        teacher: See :class:`Objective`.

    Raises:
        ValueError: If both weights are 0, or one is below; at build also if masks have different sizes.
    """

    kinds = frozenset({'masks'})
    of_labelled = True
    compares_classes = True

    def __init__(
        self,
        mask_weight: float = 1.0,
        dice_weight: float = 1.0,
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        self.factors = {'loss_mask': mask_weight, 'loss_dice': dice_weight}
        check_not_negative('mask_weight', mask_weight)
        check_not_negative('dice_weight', dice_weight)
        if not mask_weight + dice_weight:
            raise ValueError('mask_weight and dice_weight are both 0: leave this objective out')
        self.loss_names = tuple(name for name, factor in self.factors.items() if factor > 0)

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        own, other = (
            [tuple(one.logits.shape[1:]) for one in view.probe_opinions('masks')] for view in (student, teacher)
        )
        if own != other:
            raise ValueError(
                f'roi_head.mask_head draws masks of {own[0]} cells in the student and of {other[0]} in the teacher: give '
                'both the same size (mask_roi_extractor.roi_layer.output_size and mask_head.upsample_cfg)'
            )

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        samples, ours, theirs = (side['masks'] for side in (seen.samples, seen.opinions, taught.opinions))
        losses: dict[str, Tensor] = {}
        for sample, own, other in zip(samples, ours, theirs, strict=True):
            for name, value in self._of_stage(own, other).items():
                losses[name] = losses.get(name, 0.0) + sample.weight * value
        return losses

    def _of_stage(self, own: MaskOpinion, other: MaskOpinion) -> dict[str, Tensor]:
        count = len(own.logits)
        share = share_of_process(count, own.logits)
        found = {
            'loss_mask': lambda: sigmoid_soft_target_divergence(own.logits[:, None], other.logits[:, None]),
            'loss_dice': lambda: dice_distance(own.logits, other.logits),
        }
        return {name: self.factors[name] * share * found[name]() for name in self.loss_names}

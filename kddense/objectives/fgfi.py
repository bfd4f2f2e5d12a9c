"""Wang et al., Distilling Object Detectors with Fine-grained Feature Imitation, CVPR 2019."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kddense.exchange import Answer, ViewError
from kddense.losses import near_object_mask
from kddense.losses.fgfi import check_threshold
from kddense.registry import MODELS
from kddense.views import ModelView

from ._box_features import level_of
from ._ground_truth import boxes_of, check_boxes
from .base import mean_over_processes
from .feature import FeatureObjective


@MODELS.register_module()
class FGFIObjective(FeatureObjective):
    """FGFI: features are imitated near objects alone, where the student's anchors overlap the ground truth.

    See :func:`kddense.losses.near_object_mask` for the places, and :func:`kddense.losses.masked_imitation` for the loss: a
    sum over channels, averaged over the places of all levels together (of all processes).

    The paper has one map. In a pyramid a box counts in the level that suits its size, as RoIs are pooled.

    Args:
        tap: See :class:`FeatureObjective`; it holds one map for each level of the student's anchors.
        threshold: The paper's ψ.
        connector: The adaptation layer, by default a 3x3 convolution at each level, also where channels agree. The authors
            have a ReLU behind it, for maps that are not negative.
        weight: The paper's λ. See :class:`Objective`.
        **kwargs: See :class:`FeatureObjective`.
    """

    def __init__(
        self,
        tap: str | None = None,
        threshold: float = 0.5,
        connector: str | Mapping[str, Any] | None = None,
        weight: float | str | Mapping[str, Any] = 0.01,
        **kwargs: Any,
    ) -> None:
        connector = dict(type='kddense.Connector', kernel_size=3) if connector is None else connector
        loss = dict(type='kddense.MaskedImitationLoss')
        super().__init__(tap=tap, loss=loss, connector=connector, weight=weight, **kwargs)
        check_threshold(threshold)
        self.threshold = threshold
        self._anchors: Any = None

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        check_boxes(student, 'FGFI')
        self._anchors = _anchors_of(student)
        super().bind(student, teacher)
        shown, levels = len(self.probed(student, 'student')), len(self._anchors.strides)
        if shown != levels:
            raise ViewError(
                f"tap '{self.tap}' holds {shown} maps, and the student has anchors at {levels} levels: tap what its heads "
                'read'
            )

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        masks = self.chosen(self._masks(seen), 'student')
        pairs = self.pairs(seen, taught)
        masks = [F.interpolate(mask, own.shape[2:]) for mask, (own, _) in zip(masks, pairs, strict=True)]
        count = mean_over_processes(torch.stack([mask.sum() for mask in masks]).sum(), masks[0]).clamp(min=1)
        losses = [self.loss(*pair, mask, count) for mask, pair in zip(masks, pairs, strict=True)]
        return {'loss': sum(losses[1:], losses[0])}

    @torch.no_grad()
    def _masks(self, seen: Answer) -> list[Tensor]:
        """Return for each level where it is imitated, 1 and 0, ``(N, 1, h, w)``."""
        assert seen.batch is not None
        boxes = boxes_of(seen.batch)
        sizes = [(level.shape[2], level.shape[3]) for level in self.items(seen, 'student')]
        anchors = self._anchors.grid_priors(sizes, device=seen.batch.inputs.device)
        levels = [level_of(one, len(sizes), self._anchors.strides[0][0]) for one in boxes]
        masks = []
        for number, (own, size) in enumerate(zip(anchors, sizes, strict=True)):
            chosen = [one[level == number] for one, level in zip(boxes, levels, strict=True)]
            images = [near_object_mask(getattr(own, 'tensor', own), one, size, self.threshold) for one in chosen]
            masks.append(torch.stack(images).unsqueeze(1).float())
        return masks


def _anchors_of(student: ModelView) -> Any:
    """Return the generator of a detector's anchors."""
    for head in ('rpn_head', 'bbox_head'):
        generator = getattr(getattr(student.model, head, None), 'prior_generator', None)
        if hasattr(generator, 'base_anchors'):
            return generator
    raise ViewError(
        f'{student.owner} ({type(student.model).__name__}) has no anchors, whose overlap with boxes tells where FGFI '
        'imitates: take a detector with an RPNHead or RetinaHead, or DeFeat, which goes by boxes alone'
    )

"""Wang, Zhou, Jiang, Bai, Xu, Intra-class Feature Variation Distillation for Semantic Segmentation, ECCV 2020."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kddense.exchange import Answer
from kddense.registry import MODELS
from kddense.views import ModelView

from ._labels import PlaceLabels
from .places import PlaceObjective


@MODELS.register_module()
class IFVDObjective(PlaceObjective):
    """IFVD: how far the features of each class spread around their centre, by the ground truth; see
    :func:`kddense.losses.intra_class_variation`.

    The paper's models are segmentors. Of a detector, the class of a place is that of the smallest box around its middle, or
    the background; of a depth estimator, an interval of depths.

    Args:
        tap: See :class:`PlaceObjective`: by default the paper's place, before the last classifier.
        intervals: Of depth estimators, into how many intervals the range of depths is divided.
        weight: The paper's weight, 200.
        **kwargs: See :class:`FeatureObjective`.
    """

    def __init__(
        self,
        tap: str | None = None,
        intervals: int = 8,
        weight: float | str | Mapping[str, Any] = 200.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(tap=tap, loss=dict(type='kddense.IFVDLoss'), weight=weight, **kwargs)
        self.intervals = intervals
        self.labels: Any = None

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        self.labels = PlaceLabels(student, self.intervals)
        super().bind(student, teacher)

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        losses = [
            self.loss(own, other, self.labels.at(seen.batch, own.shape[-2:])) for own, other in self.pairs(seen, taught)
        ]
        return {'loss': sum(losses[1:], losses[0]) / len(losses)}

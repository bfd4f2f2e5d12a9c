"""Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kddense.connectors import match_size
from kddense.exchange import MapOpinion, MapSample
from kddense.losses import CWDLoss
from kddense.registry import MODELS

from .heads import HeadObjective


@MODELS.register_module()
class CWDObjective(HeadObjective):
    """Channel-wise distillation: where in the image each channel looks.

    Args:
        compare: ``'logits'``, whose channels are the classes, or ``'feature'``, what the classifier reads.
        temperature: The paper's T.
        connector: For features, see :class:`MapObjective`; ``'auto'`` by default.
        weight: The paper's α: 3 for logits; for features the paper uses 50.
        **kwargs: See :class:`HeadObjective`.
    """

    def __init__(
        self,
        compare: str = 'logits',
        temperature: float = 4.0,
        connector: str | Mapping[str, Any] | None = 'auto',
        weight: float | str | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if compare not in ('logits', 'feature'):
            raise ValueError(f"compare must be 'logits' or 'feature', got {compare!r}")
        if weight is None:
            weight = 3.0 if compare == 'logits' else 50.0
        super().__init__(weight=weight, connector=connector, **kwargs)
        self.what = compare
        self.loss = CWDLoss(temperature=temperature)

    @property
    def compares_classes(self) -> bool:
        return self.what == 'logits'

    def bind_pair(self, own: MapOpinion, other: MapOpinion) -> None:
        super().bind_pair(own, other)
        layer = None if self.compares_classes else self.layer_between(self.map_of(own), self.map_of(other))
        self.connectors.append(layer or nn.Identity())

    def judge(self, index: int, sample: MapSample, own: MapOpinion, other: MapOpinion) -> Tensor:
        student = self.connectors[index](self.map_of(own))
        return self.loss(*match_size(student, self.map_of(other), self.resize))

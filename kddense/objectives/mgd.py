"""Yang et al., Masked Generative Distillation, ECCV 2022."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kddense.exchange import Answer
from kddense.losses.mgd import check_share, without_places
from kddense.registry import MODELS

from ._shared_numbers import SharedNumbers
from .feature import FeatureObjective


@MODELS.register_module()
class MGDObjective(FeatureObjective):
    """MGD: two convolutions generate the teacher's map from the student's, of which places are missing.

    For each level squared differences, summed over channels and places, averaged over images; then averaged over the levels,
    which the authors add up and the recipes' weights make good. In a run the places are drawn by its seed and the
    iteration: no other stream of random numbers moves, and a resumed run draws them again.

    Args:
        tap: See :class:`FeatureObjective`.
        masked: Which share of the places is missing, the paper's λ: the authors' is 0.65 for one-stage detectors, 0.45 for
            two-stage ones, 0.75 for segmentors.
        weight: The paper's α, for one level. See :class:`Objective`.
        **kwargs: See :class:`FeatureObjective`.
    """

    def __init__(
        self,
        tap: str | None = None,
        masked: float = 0.65,
        weight: float | str | Mapping[str, Any] = 2e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(tap=tap, loss=dict(type='kddense.MGDLoss'), weight=weight, **kwargs)
        check_share('masked', masked)
        self.masked = masked
        self.generators = nn.ModuleList()

    def bind_pair(self, own: Tensor, other: Tensor) -> None:
        super().bind_pair(own, other)
        if own.dim() != 4 or other.dim() != 4:
            raise ValueError(f'MGD compares maps, got {own.dim()} and {other.dim()} dimensions; tap maps on both sides')
        channels = (other if self.connect == 'student' else own).shape[1]
        convolutions = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
        self.generators.append(nn.Sequential(convolutions[0], nn.ReLU(inplace=True), convolutions[1]))

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        numbers = SharedNumbers()
        losses = []
        for generator, (own, other) in zip(self.generators, self.pairs(seen, taught), strict=True):
            drawn = numbers.draw((len(own), 1, *own.shape[2:]), own)
            losses.append(self.loss(generator(without_places(own, drawn, self.masked)), other))
        return {'loss': sum(losses[1:], losses[0]) / len(losses)}

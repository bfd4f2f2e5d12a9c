"""Yim, Joo, Bae and Kim, "A Gift from Knowledge Distillation", CVPR 2017: what flows from stage to stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from kddense.connectors import ConvConnector
from kddense.exchange import Answer
from kddense.registry import MODELS
from kddense.views import ModelView

from .feature import FeatureObjective


@MODELS.register_module()
class FSPObjective(FeatureObjective):
    """The flow of solution procedure: how channels of one stage go with those of another, averaged over pairs of stages.

    Stages of unequal size are pooled to the smaller. Networks of other channels than the teacher's are connected at each
    stage first; the paper's have equal ones. The paper trains this alone first, and then the task alone: see
    :class:`kddense.RestHook`.

    Args:
        tap: Where the stages are: a backbone or a neck.
        stages: Pairs of levels, counted as ``levels`` chooses them; each with the next by default.
        mode: ``'code'`` or ``'paper'``: see :func:`kddense.losses.flow_distance`.
        weight: RepDistiller's by default, for the mean over entries.
        **kwargs: See :class:`FeatureObjective`.
    """

    def __init__(
        self,
        tap: str = 'backbone',
        stages: Sequence[Sequence[int]] | None = None,
        mode: Literal['code', 'paper'] = 'code',
        weight: float | str | Mapping[str, Any] = 50.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(tap=tap, loss=dict(type='kddense.FSPLoss', mode=mode), weight=weight, **kwargs)
        self.stages = None if stages is None else [tuple(pair) for pair in stages]
        self.connects_flows = False

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        self.connects_flows = self.connect == 'student' and all(map(_is_plain, self.connectors))

    def check_pairs(self, ours: Any, theirs: Any) -> None:
        super().check_pairs(ours, theirs)
        if any(one.dim() != 4 for one in (*ours, *theirs)):
            raise ValueError(f"tap '{self.tap}' must hold maps (N, C, H, W): what flows is a sum over places")
        if len(ours) < 2:
            raise ValueError(f"tap '{self.tap}' holds one map, and a flow needs two: tap a backbone or a neck")
        if self.stages is None:
            self.stages = [(level, level + 1) for level in range(len(ours) - 1)]
        for pair in self.stages:
            if len(pair) != 2 or not all(-len(ours) <= level < len(ours) for level in pair):
                raise ValueError(f'stages must be pairs of levels in 0..{len(ours) - 1}, got {pair}')
            if pair[0] % len(ours) == pair[1] % len(ours):
                raise ValueError(f'stages must be pairs of two levels, got {pair}: nothing flows within one')
        if not self.stages:
            raise ValueError('stages must name at least one pair of levels')

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        assert self.stages is not None
        levels = self.pairs(seen, taught)
        losses = []
        for first, second in self.stages:
            (own, other), (own_next, other_next) = levels[first], levels[second]
            losses.append(self.loss((own, own_next), (other, other_next), self._layers(first, second)))
        return {'loss': sum(losses[1:], losses[0]) / len(losses)}

    def connected(self, maps: list[Tensor]) -> list[Tensor]:
        return maps if self.connects_flows else super().connected(maps)

    def _layers(self, *levels: int) -> list[tuple[Tensor, Tensor]] | None:
        """Return weight and bias of the connectors of some levels, ``None`` if the maps are connected already."""
        if not self.connects_flows:
            return None
        layers: list[Any] = [self.connectors[level] for level in levels]
        return [(layer.conv.weight.flatten(1), layer.conv.bias) for layer in layers]


def _is_plain(layer: Any) -> bool:
    """Tell whether a connector is a 1x1 convolution and nothing else: it can be applied to what flows."""
    return isinstance(layer, ConvConnector) and layer.conv.kernel_size == (1, 1) and isinstance(layer.norm, nn.Identity)

"""What methods share that compare values before a ReLU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kddense.connectors import ConvConnector
from kddense.exchange import Answer
from kddense.views import ModelView

from ..maps import MapObjective
from .places import Place, places_of


class BeforeReLUObjective(MapObjective):
    """Compares what the last ReLUs of parts are given: the maps of a backbone's stages, or of layers of a head.

    The loss is a weighted sum over the maps, as in the authors' codes.

    Args:
        parts: Sub-modules of the student, such as ``('backbone', 'decode_head.bottleneck')``.
        teacher_parts: The same in the teacher; the same by default.
        level_weights: One factor for each map; by default 1 for the last, and half of the next one's for each before it.
        connector: A 1x1 convolution with batch norm by default, initialised as by the authors of OFD.
        **kwargs: See :class:`kddense.objectives.MapObjective`. ``levels`` count the maps of all parts.
    """

    def __init__(
        self,
        parts: Sequence[str] = ('backbone',),
        teacher_parts: Sequence[str] | None = None,
        level_weights: Sequence[float] | None = None,
        connector: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(connector=dict(connector or dict(norm=dict(type='BN'))), **kwargs)
        if isinstance(parts, str) or not parts:
            raise ValueError(f"parts must be a list such as ['backbone'], got {parts!r}")
        self.parts = dict(student=list(parts), teacher=list(parts if teacher_parts is None else teacher_parts))
        self.level_weights = None if level_weights is None else list(level_weights)
        self.places: dict[str, list[Place]] = dict(student=[], teacher=[])

    @property
    def student_taps(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset(place.tap for place in self.places['student'])

    @property
    def teacher_taps(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset(place.tap for place in self.places['teacher'])

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        for side, view in dict(student=student, teacher=teacher).items():
            found = [place for part in self.parts[side] for place in places_of(view, part)]
            self.places[side] = super().chosen(found, side)
        super().bind(student, teacher)
        for layer in self.connectors:
            if isinstance(layer, ConvConnector):
                nn.init.kaiming_normal_(layer.conv.weight, mode='fan_out', nonlinearity='relu')
        self.level_weights = self._checked_weights(len(self.places['student']))

    def _checked_weights(self, count: int) -> list[float]:
        weights = self.level_weights or [0.5 ** (count - 1 - level) for level in range(count)]
        if len(weights) != count or not all(0 <= weight < float('inf') for weight in weights):
            raise ValueError(f'level_weights must be {count} numbers that are at least 0, got {weights}')
        return weights

    def chosen(self, items: Sequence[Any], side: str) -> list[Any]:
        """Return all: they were chosen when their places were found."""
        return list(items)

    def place(self, side: str) -> str:
        return f' of {", ".join(self.parts[side])}'

    def probed(self, view: ModelView, side: str) -> list[Tensor]:
        taps = view.probe(place.tap for place in self.places[side])
        return [place.value(taps) for place in self.places[side]]

    def items(self, answer: Answer, side: str) -> list[Tensor]:
        return [place.value(answer.taps) for place in self.places[side]]

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        assert self.level_weights is not None
        pairs = enumerate(zip(self.level_weights, self.pairs(seen, taught), strict=True))
        losses = [weight * self.judge(level, *pair) for level, (weight, pair) in pairs]
        return {'loss': sum(losses[1:], losses[0])}

    def judge(self, level: int, own: Tensor, other: Tensor) -> Tensor:
        """Return the loss of one pair of maps.

        Args:
            level: Which of those compared.
            own: The student's, connected, with gradients.
            other: The teacher's.
        """
        raise NotImplementedError

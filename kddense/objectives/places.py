"""The parent of objectives that relate the places of a map to one another, rather than to the teacher's."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kddense.exchange import Answer, Shown
from kddense.views import ModelView

from .feature import UNKNOWN, FeatureObjective


class PlaceObjective(FeatureObjective):
    """Compares relations of places, for which the two models need not have the same channels.

    Args:
        tap: Where to listen in the student. By default of segmentors and depth estimators what the classifier of pixels
            reads, as the papers have it, and of all others what the heads share; see :class:`FeatureObjective`.
        **kwargs: See :class:`FeatureObjective`; there is no connector.
    """

    def __init__(self, tap: str | None = None, **kwargs: Any) -> None:
        super().__init__(tap=tap, connector=None, **kwargs)
        self.at_classifier = False

    @property
    def student_taps(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset() if self.at_classifier else super().student_taps

    @property
    def teacher_taps(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset() if self.at_classifier else super().teacher_taps

    def shown(self) -> Shown:
        return Shown(pairs='pixels') if self.at_classifier else super().shown()

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        self.at_classifier = self.tap == UNKNOWN and all('pixels' in view.kinds for view in (student, teacher))
        if self.at_classifier:
            self.kinds = frozenset({'pixels'})
        super().bind(student, teacher)

    def bind_pair(self, own: Any, other: Any) -> None:
        self.connectors.append(nn.Identity())

    def probed(self, view: ModelView, side: str) -> list[Tensor]:
        if not self.at_classifier:
            return super().probed(view, side)
        return [opinion.feature for opinion in view.probe_opinions('pixels')]

    def items(self, answer: Answer, side: str) -> list[Tensor]:
        if not self.at_classifier:
            return super().items(answer, side)
        return [opinion.feature for opinion in answer.opinions['pixels']]

    def place(self, side: str) -> str:
        return ' of what the classifier reads' if self.at_classifier else super().place(side)

"""Segmentors of mmseg: heads that may be several, or a cascade."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from kddense.taps import Recording, Tap

from .base import Answer, ModelView, Question, ViewError, is_a


class SegmentorView(ModelView):
    """Every ``EncoderDecoder`` and ``CascadeEncoderDecoder`` of mmseg; of PointRend, the stages before its points."""

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, 'EncoderDecoder')

    def read(self, recording: Recording, taps: Iterable[str], kinds: Iterable[str]) -> Answer:
        taps = frozenset(taps)
        answer = super().read(recording, taps, kinds)
        values = {tap: self._first_run(recording, tap) if self._runs_twice(tap) else answer.taps[tap] for tap in taps}
        return replace(answer, taps=values)

    def _runs_twice(self, tap: str) -> bool:
        """In training, mmseg runs each stage of a cascade but the last for its loss, and again for the next stage."""
        head, _, stage = Tap.parse(tap).path.partition('.')
        stages = self.model.decode_head
        if head != 'decode_head' or not isinstance(stages, nn.ModuleList):
            return False
        return stage.partition('.')[0] not in ('', str(len(stages) - 1))

    def _first_run(self, recording: Recording, tap: str) -> Any:
        values = recording.calls(tap)
        values = values[: len(values) // 2]
        return values[0] if len(values) == 1 else values

    def run_head(self, part: str, features: Any, question: Question) -> dict[str, list[Any]]:
        head = getattr(self.model, part)
        if not isinstance(head, nn.ModuleList):
            head(features)
        elif part == 'auxiliary_head':
            for auxiliary in head:
                auxiliary(features)
        else:
            self._run_cascade(head, features, question)
        return {}

    def _run_cascade(self, stages: nn.ModuleList, features: Any, question: Question) -> None:
        """Run the stages up to the last one that a tap listens to."""
        names = [Tap.parse(tap).path.split('.') for tap in question.taps]
        heard = [int(path[1]) if len(path) > 1 else len(stages) - 1 for path in names if path[0] == 'decode_head']
        logits = stages[0](features)
        for index in range(1, max(heard) + 1):
            if is_a(stages[index], 'PointHead'):
                raise ViewError(f'{self.owner}.decode_head[{index}] reads points: tap decode_head.{index - 1} instead')
            logits = stages[index](features, logits)

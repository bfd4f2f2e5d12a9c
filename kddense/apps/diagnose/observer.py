"""An objective that only listens: what student and teacher say of each sample, and what their classifiers read."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from kddense.exchange import Answer
from kddense.objectives import ClassObjective
from kddense.registry import MODELS

MOST = 4000  # samples of a batch; more tell little


@dataclass(frozen=True)
class Heard:
    """Samples of a batch.

    Attributes:
        student: Logits, ``(M, C)``.
        teacher: The teacher's, same shape.
        labels: The true classes, ``(M,)``; C for none of sigmoid classes.
        student_feature: What the student's classifier reads of each sample, ``(M, F)``; ``None`` where that is not shown.
        teacher_feature: The teacher's, ``(M, F')``.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor
    student_feature: Tensor | None = None
    teacher_feature: Tensor | None = None


@MODELS.register_module()
class ClassObserver(ClassObjective):
    """Keeps what both say; its loss is 0.

    Args:
        teacher: The name of the teacher to listen to.
    """

    needs_labels = True

    def __init__(self, teacher: str | None = None) -> None:
        super().__init__(teacher=teacher)
        self.loss = SimpleNamespace(classes=None)
        self.heard: list[Heard] = []

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        judged = next(iter(self.judged(seen, taught)))
        assert judged.labels is not None
        rows = [_rows(one) for one in (judged.student, judged.teacher)]
        labels = judged.labels.flatten()
        features: list[Any] = [None, None]
        own, other = seen.opinions[self.kind][0], taught.opinions[self.kind][0]
        if self.kind == 'pixels' and own.feature.shape[2:] == other.feature.shape[2:] == judged.student.shape[2:]:
            features = [_rows(one.feature) for one in (own, other)]
        counts = (labels >= 0).nonzero().squeeze(1)
        chosen = counts[:: max(1, -(-len(counts) // MOST))]
        kept = [None if one is None else one[chosen].detach().float().cpu() for one in (*rows, *features)]
        assert kept[0] is not None
        assert kept[1] is not None
        self.heard.append(Heard(kept[0], kept[1], labels[chosen].cpu(), kept[2], kept[3]))
        return {'loss': judged.student.sum() * 0}


def _rows(values: Tensor) -> Tensor:
    return values.flatten(2).movedim(1, -1).flatten(0, 1) if values.ndim == 4 else values

"""How the samples of a batch relate: RoIs of all its images, or the images themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from kddense.exchange import Answer
from kddense.registry import MODELS
from kddense.taps import tensors_of
from kddense.views import ModelView

from .base import Objective

EMBEDDINGS = 'fc_cls:input'


@MODELS.register_module()
class RelationObjective(Objective):
    """Compares how samples of a batch lie to each other, in the student's embeddings and in the teacher's.

    RoIs: those positive ones that the student's own RoI head sampled, of all images together; both RoI heads judge them, and
    what their classifiers read is compared. Nothing is learned between the two, as relations need no equal channels. Images:
    what a tap holds, averaged over positions. Fewer samples than a relation needs make a loss of 0: two images have neither
    an angle nor a ranking, and their one distance by its mean teaches nothing, so the relations of images need batches.

    The samples are those at hand: under data parallelism each process relates its own.

    Args:
        loss: A loss of two embeddings ``(N, C)`` and ``(N, C')`` of the same samples, such as
            ``dict(type='kddense.RKDLoss')`` or ``dict(type='kddense.DarkRankLoss')``.
        among: ``'rois'``, ``'images'``, or ``'auto'``: RoIs if both models have a RoI head, else images.
        stage: Of cascades, which RoI head: the last by default.
        tap: Of images, where to listen in the student: ``'backbone'`` by default. Of several maps the last is taken.
        teacher_tap: The same in the teacher; the same place by default.
        most: How many RoIs are related at most, evenly chosen of all positives: memory grows with their square, of
            angles with their cube.
        weight: See :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    def __init__(
        self,
        loss: Mapping[str, Any],
        among: Literal['auto', 'rois', 'images'] = 'auto',
        stage: int = -1,
        tap: str = 'backbone',
        teacher_tap: str | None = None,
        most: int = 64,
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        if among not in ('auto', 'rois', 'images'):
            raise ValueError(f"among must be 'auto', 'rois' or 'images', got {among!r}")
        if most < 2:
            raise ValueError(f'most must be at least 2, got {most}')
        self.loss: Any = MODELS.build(dict(loss))
        self.among = among
        self.stage = stage
        self.tap = tap
        self.teacher_tap = tap if teacher_tap is None else teacher_tap
        self.most = most

    @property
    def asks_teacher(self) -> bool:
        return True

    @property
    def student_taps(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({self.tap})

    @property
    def teacher_taps(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({self.teacher_tap})

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        if self.among == 'auto':
            self.among = 'rois' if all('roi' in view.kinds for view in (student, teacher)) else 'images'
        if self.among == 'rois':
            self.tap, self.teacher_tap = (embeddings_of(view, self.stage) for view in (student, teacher))
        super().bind(student, teacher)

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        own, other = seen.taps[self.tap], taught.taps[self.teacher_tap]
        if self.among == 'rois':
            rows = self._related(seen)
            return {'loss': self.loss(own[rows], other[rows])}
        return {'loss': self.loss(_of_images(own), _of_images(other))}

    def _related(self, seen: Answer) -> Tensor:
        """Return which rows of the sample are related."""
        samples = seen.samples['roi']
        if not -len(samples) <= self.stage < len(samples):  # a cascade that ended early
            return torch.zeros(0, dtype=torch.long, device=samples[0].positive.device)
        positive = samples[self.stage].positive
        if len(positive) <= self.most:
            return positive
        chosen = torch.linspace(0, len(positive) - 1, self.most, device=positive.device).round().long()
        return positive[chosen]


def embeddings_of(view: ModelView, stage: int = -1) -> str:
    """Return the tap at which a two-stage detector's box classifier reads the embeddings of its RoIs.

    Raises:
        ValueError: If there is no such box head.
    """
    view.check('roi')
    heads: list[Any] = view.box_heads  # type: ignore[attr-defined]
    if not -len(heads) <= stage < len(heads):
        raise ValueError(f'stage must name one of {len(heads)} RoI heads of the {view.owner}, got {stage}')
    paths = {id(module): path for path, module in view.model.named_modules()}
    return f'{paths[id(heads[stage])]}.{EMBEDDINGS}'


def _of_images(value: Any) -> Tensor:
    last = list(tensors_of(value))[-1]
    if last.dim() == 4:
        return last.flatten(2).mean(dim=2)
    return last.mean(dim=1) if last.dim() == 3 else last

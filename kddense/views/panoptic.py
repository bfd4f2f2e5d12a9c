"""Panoptic FPN of mmdet: things by boxes and masks on RoIs, stuff by the pixels of its semantic head."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from kddense.exchange import MapOpinion, MapSample, Question, ViewError
from kddense.registry import VIEWS
from kddense.taps import Recording

from ._boxes import differing
from ._models import is_a, owner_of
from ._pixels import inside_images
from .base import ModelView
from .two_stage import TwoStageView

KIND, PART = 'stuff', 'semantic_head'


@VIEWS.register_module()
class PanopticView(TwoStageView):
    """``PanopticFPN`` and every ``TwoStagePanopticSegmentor`` of mmdet with a ``PanopticFPNHead``.

    ``'rpn'``, ``'roi'`` and ``'masks'`` are those of two-stage detectors, about things. ``'stuff'`` is what the semantic
    head says of every pixel: one class for each kind of stuff, and a last one for all things.
    """

    explains = {**TwoStageView.explains, KIND: 'semantic head; only Panoptic FPN has one'}

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, 'TwoStagePanopticSegmentor')

    def check(self, kind: str) -> None:
        if kind != KIND:
            super().check(kind)
            return
        head = getattr(self.model, PART, None)
        if any(owner_of(head, method) != 'PanopticFPNHead' for method in ('forward', 'loss')):
            found = 'missing' if head is None else f'a {type(head).__name__}'
            raise ViewError(f'{self.owner}.{PART} is {found}: only a PanopticFPNHead can be compared')
        if self.class_map is not None:
            raise ViewError(
                f'{self.owner}.class_map chooses classes of boxes, and what {PART} says is stuff: leave the objective on '
                f'{PART} out, or take a teacher of the same classes without a class_map'
            )

    def differences(self, teacher: ModelView, kind: str) -> list[str]:
        if kind != KIND:
            return super().differences(teacher, kind)
        key, heads = f'{PART}.num_stuff_classes', (self.model.semantic_head, teacher.model.semantic_head)
        return differing([(key, *(head.num_stuff_classes for head in heads))])

    def sources_of(self, kinds: Iterable[str]) -> list[str]:
        return super().sources_of(set(kinds) - {KIND})

    def taps_of(self, kind: str) -> list[str]:
        return ['loss()', PART] if kind == KIND else super().taps_of(kind)

    def read_kind(self, kind: str, recording: Recording) -> tuple[list[Any], list[Any]]:
        if kind != KIND:
            return super().read_kind(kind, recording)
        batch = recording['loss()'].arguments
        sample = self._pixels(batch['batch_inputs'], batch['batch_data_samples'])
        return [sample], [_opinion(recording[PART])]

    def _pixels(self, images: Tensor, data_samples: list[Any]) -> MapSample:
        head = self.model.semantic_head
        valid = inside_images(images, data_samples)
        for image, sample in zip(valid, data_samples, strict=True):
            image &= sample.gt_sem_seg.sem_seg.squeeze(0) < head.num_things_classes + head.num_stuff_classes
        return MapSample(images, valid)

    def fit_opinions(self, kind: str, opinions: list[Any], fit: Callable[[Tensor], Tensor]) -> list[Any]:
        if kind != KIND:
            return super().fit_opinions(kind, opinions, fit)
        return [MapOpinion(fit(one.logits), fit(one.feature)) for one in opinions]

    def parts_of(self, kinds: Iterable[str]) -> set[str]:
        kinds = set(kinds)
        return super().parts_of(kinds - {KIND}) | {PART for _ in kinds & {KIND}}

    def run_head(self, part: str, features: Any, question: Question) -> dict[str, list[Any]]:
        if part != PART:
            return super().run_head(part, features, question)
        said = self.model.semantic_head(features)
        return {KIND: [_opinion(said)]} if KIND in question.opinions else {}


def _opinion(said: dict[str, Tensor]) -> MapOpinion:
    return MapOpinion(said['seg_preds'], said['seg_feats'])

"""MaskFormer and Mask2Former of mmdet: classes and masks of queries, and what their pixel decoder makes of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from kddense.exchange import MaskQueryOpinion, Question, ViewError
from kddense.registry import VIEWS
from kddense.taps import Recording

from ._boxes import differing
from ._models import is_a, owner_of
from .base import ModelView
from .whole_run import layers_in, of_whole_images

FORWARDS = ('MaskFormerHead', 'Mask2FormerHead')


@VIEWS.register_module()
class MaskFormerView(ModelView):
    """``MaskFormer`` and ``Mask2Former`` of mmdet, for instances or panoptic.

    ``'mask_queries'`` is what each decoder layer says of the model's own queries: things and stuff alike, sets that can be
    matched. Taps in the head, such as ``'panoptic_head.pixel_decoder'``, can be listened to; the teacher is told the sizes
    of the images as it sees them.
    """

    explains = {'mask_queries': 'masks of queries; only MaskFormer and Mask2Former have some'}

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, 'MaskFormer')

    def check(self, kind: str) -> None:
        if kind not in self.kinds:
            super().check(kind)
        head = self.model.panoptic_head
        if owner_of(head, 'forward') not in FORWARDS:
            raise ViewError(
                f'{self.owner}.panoptic_head is a {type(head).__name__}, which decodes queries in a way of its own: only '
                'MaskFormerHead and Mask2FormerHead can be compared'
            )
        self._check_class_map(head.num_classes)

    def differences(self, teacher: ModelView, kind: str) -> list[str]:
        own, other = self.model.panoptic_head.num_classes, teacher.model.panoptic_head.num_classes
        classes = other if teacher.class_map is None else len(teacher.class_map)
        return differing([('panoptic_head.num_classes (things and stuff)', own, classes)])

    def taps_of(self, kind: str) -> list[str]:
        return ['panoptic_head']

    def read_kind(self, kind: str, recording: Recording) -> tuple[list[Any], list[Any]]:
        return [], [self._opinion(recording['panoptic_head'])]

    def _opinion(self, outputs: Sequence[Sequence[Tensor]]) -> MaskQueryOpinion:
        logits, masks = (tuple(layer.float() for layer in said) for said in outputs)
        if self.class_map is not None:
            kept = [*self.class_map, self.model.panoptic_head.num_classes]
            logits = tuple(layer[..., kept] for layer in logits)
        return MaskQueryOpinion(logits, masks)

    def fit_opinions(self, kind: str, opinions: list[Any], fit: Callable[[Tensor], Tensor]) -> list[Any]:
        return [MaskQueryOpinion(one.logits, tuple(map(fit, one.masks))) for one in opinions]

    def parts_of(self, kinds: Iterable[str]) -> set[str]:
        return {'panoptic_head' for _ in kinds}

    def run(self, question: Question, images: Tensor) -> dict[str, list[Any]]:
        if not question.data_samples:
            question = replace(question, data_samples=tuple(of_whole_images(images)))
        with layers_in(self.image_dtype(), images.device):
            return super().run(question, images)

    def run_head(self, part: str, features: Any, question: Question) -> dict[str, list[Any]]:
        if part != 'panoptic_head':
            return super().run_head(part, features, question)
        outputs = self.model.panoptic_head(features, list(question.data_samples))
        return {kind: [self._opinion(outputs)] for kind in question.opinions}

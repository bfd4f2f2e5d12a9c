"""MaskFormer and Mask2Former of mmdet and mmseg: what their heads say of queries, and what pixel decoders make of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

from kddense.exchange import MaskQueryOpinion, Question, ViewError
from kddense.registry import VIEWS
from kddense.taps import Recording

from ._boxes import differing
from ._models import is_a, is_unlabelled, owner_of
from .base import ModelView
from .segmentor import SegmentorView
from .unlabelled import DetectorView, check_kinds, nothing_counts
from .whole_run import layers_in, of_whole_images

KIND = 'mask_queries'
FORWARDS = ('MaskFormerHead', 'Mask2FormerHead')


class MaskQueryView(ModelView):
    """What models share whose head says a class and a mask for each of its queries.

    Taps in the head, such as ``'panoptic_head.pixel_decoder'``, can be listened to; the teacher is told the sizes of the
    images as it sees them.

    Attributes:
        head_key: Where the head stands in the model.
        masks_are: Of what there is one mask.
    """

    explains: Mapping[str, str] = {KIND: 'masks of queries; only MaskFormer and Mask2Former have some'}
    head_key = ''
    masks_are = ''

    @property
    def head(self) -> Any:
        """The head."""
        return getattr(self.model, self.head_key)

    def check(self, kind: str) -> None:
        if kind != KIND:
            super().check(kind)
            return
        if owner_of(self.head, 'forward') not in FORWARDS:
            raise ViewError(
                f'{self.owner}.{self.head_key} is a {type(self.head).__name__}, which decodes queries in a way of its own: '
                'only MaskFormerHead and Mask2FormerHead can be compared'
            )
        self._check_class_map(self.head.num_classes)

    def differences(self, teacher: ModelView, kind: str) -> list[str]:
        if kind != KIND:
            return super().differences(teacher, kind)
        assert isinstance(teacher, MaskQueryView)
        classes = teacher.head.num_classes if teacher.class_map is None else len(teacher.class_map)
        return differing(
            [
                ('the masks', self.masks_are, teacher.masks_are),
                (f'{self.head_key}.num_classes (things and stuff)', self.head.num_classes, classes),
            ]
        )

    def is_sigmoid(self, kind: str) -> bool:
        return kind != KIND and super().is_sigmoid(kind)

    def taps_of(self, kind: str) -> list[str]:
        return [self.head_key] if kind == KIND else super().taps_of(kind)

    def read_kind(self, kind: str, recording: Recording) -> tuple[list[Any], list[Any]]:
        return ([], [self._said(recording[self.head_key])]) if kind == KIND else super().read_kind(kind, recording)

    def _said(self, outputs: Sequence[Sequence[Tensor]]) -> MaskQueryOpinion:
        logits, masks = (tuple(layer.float() for layer in said) for said in outputs)
        if self.class_map is not None:
            kept = [*self.class_map, self.head.num_classes]
            logits = tuple(layer[..., kept] for layer in logits)
        return MaskQueryOpinion(logits, masks)

    def fit_opinions(self, kind: str, opinions: list[Any], fit: Callable[[Tensor], Tensor]) -> list[Any]:
        if kind != KIND:
            return super().fit_opinions(kind, opinions, fit)
        return [MaskQueryOpinion(one.logits, tuple(map(fit, one.masks))) for one in opinions]

    def parts_of(self, kinds: Iterable[str]) -> set[str]:
        others = [kind for kind in kinds if kind != KIND]
        return super().parts_of(others) | ({self.head_key} if len(others) < len(set(kinds)) else set())

    def run(self, question: Question, images: Tensor) -> dict[str, list[Any]]:
        told = self.told_sizes(question.data_samples or of_whole_images(images))
        with layers_in(self.image_dtype(), images.device):
            return super().run(replace(question, data_samples=tuple(told)), images)

    def told_sizes(self, samples: Sequence[Any]) -> Sequence[Any]:
        """Return the data samples from which the head is to read the sizes of the images."""
        return samples

    def run_head(self, part: str, features: Any, question: Question) -> dict[str, list[Any]]:
        if part != self.head_key:
            return super().run_head(part, features, replace(question, opinions=question.opinions - {KIND}))
        outputs = self.head(features, list(question.data_samples))
        return {KIND: [self._said(outputs)]} if KIND in question.opinions else {}


@VIEWS.register_module()
class MaskFormerView(MaskQueryView, DetectorView):
    """``MaskFormer`` and ``Mask2Former`` of mmdet, for instances or panoptic.

    ``'mask_queries'`` is what each decoder layer says of the model's own queries: things and stuff alike, sets that can be
    matched.
    """

    head_key = 'panoptic_head'
    masks_are = 'one for each instance'

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, 'MaskFormer')


@VIEWS.register_module()
class MaskSegmentorView(MaskQueryView, SegmentorView):
    """Every ``EncoderDecoder`` of mmseg whose decode head is a ``MaskFormerHead`` or ``Mask2FormerHead``.

    ``'mask_queries'`` is what each decoder layer says of the model's own queries, ``'auxiliary'`` the auxiliary heads.
    """

    explains = {**SegmentorView.explains, **MaskQueryView.explains}
    head_key = 'decode_head'
    masks_are = 'one for each class'

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return SegmentorView.fits(model) and is_a(getattr(model, 'decode_head', None), 'MaskFormerHead')

    def told_sizes(self, samples: Sequence[Any]) -> Sequence[Any]:
        """Return data samples as mmseg's own loss makes them, to which an image is as large as its batch."""
        shapes = [sample.metainfo['img_shape'] for sample in samples]
        return [
            type(sample)(metainfo={**sample.metainfo, 'batch_input_shape': shape})
            for sample, shape in zip(samples, shapes, strict=True)
        ]

    def check_images(self, data_samples: Sequence[Any], kinds: Iterable[str]) -> None:
        check_kinds(self, data_samples, kinds)

    def _blank(self, data_samples: Sequence[Any]) -> None:
        """Give labels that count nowhere to images without any."""
        device = next(self.model.parameters()).device
        for sample in data_samples:
            if 'gt_sem_seg' not in sample:
                labels = torch.full((1, *sample.metainfo['img_shape'][:2]), self.head.ignore_index, device=device)
                sample.gt_sem_seg = PixelData(data=labels)

    @contextmanager
    def without_labels(self, data_samples: Sequence[Any], kinds: Iterable[str] = ()) -> Iterator[None]:
        if data_samples and all(map(is_unlabelled, data_samples)):
            with nothing_counts(self.model, lambda: self._blank(data_samples)):
                yield
            return
        if any(map(is_unlabelled, data_samples)):
            raise ViewError(
                f'{self.owner}.decode_head is a {type(self.head).__name__}, which makes masks of the labels of every image: '
                'it cannot learn from unlabelled images beside labelled ones'
            )
        yield

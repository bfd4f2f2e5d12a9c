"""Depth estimators: metres of every pixel, and what they are read from."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from kddense.exchange import DepthOpinion, DepthSample, ViewError
from kddense.registry import VIEWS
from kddense.taps import Recording

from ._models import is_a, is_unlabelled
from ._pixels import inside_images
from .base import ModelView
from .segmentor import SegmentorView


@VIEWS.register_module()
class DepthView(SegmentorView):
    """Every ``DepthEstimator`` of mmseg whose heads are :class:`kddense.models.DepthHead`.

    Its heads are pixel classifiers as a segmentor's are, with bins for classes, or with one channel; so whatever compares
    features before the classifier works on both families.
    """

    shows_depth = True

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, 'DepthEstimator')

    def check(self, kind: str) -> None:
        for path, head in super()._heads(kind).items() if kind in self.kinds else ():
            if not is_a(head, 'DepthHead'):
                raise ViewError(f'{self.owner}.{path} must be a kddense.DepthHead, found {type(head).__name__}')
        if self.class_map is not None:
            raise ViewError(f'{self.owner}.class_map: a depth estimator has no classes, remove it')
        super().check(kind)

    def is_sigmoid(self, kind: str) -> bool:
        return False

    def _heads(self, kind: str) -> dict[str, Any]:
        return {f'{path}.decoder': head.decoder for path, head in super()._heads(kind).items()}

    def _sample(self, kind: str, batch: dict[str, Any]) -> DepthSample:
        images, data_samples = batch['inputs'], batch['data_samples']
        depth = images.new_zeros(len(images), *images.shape[-2:], dtype=torch.float32)
        valid = inside_images(images, data_samples)
        labelled = [index for index, sample in enumerate(data_samples) if not is_unlabelled(sample)]
        if labelled:
            head = self._head_of(next(iter(self._heads(kind))))
            known = head.known_depth([data_samples[index] for index in labelled])
            depth[labelled] = known[:, 0].to(depth)
            valid[labelled] &= depth[labelled] > 0
        return DepthSample(images, valid, depth)

    def _opinion(self, recording: Recording, path: str, as_student: bool = True) -> DepthOpinion:
        opinion = super()._opinion(recording, path, as_student)
        return DepthOpinion(opinion.logits, opinion.feature, self._head_of(path))

    def _head_of(self, path: str) -> Any:
        return self.model.get_submodule(path.rpartition('.')[0])


def check_depth_scale(student: ModelView, teacher: ModelView, bins: bool = False) -> None:
    """Raise a :class:`ViewError` unless both estimate depth, in one range and, if asked for, in the same bins."""
    for view in (student, teacher):
        if not view.shows_depth:
            raise ViewError(f'{view.owner} ({type(view.model).__name__}) does not estimate depth, the other does')
    own, other = student.model.decode_head, teacher.model.decode_head
    if bins:
        for view, head in ((student, own), (teacher, other)):
            if head.target != 'bins':
                raise ViewError(
                    f"{view.owner}.decode_head.target is '{head.target}': only 'bins' has probabilities to compare; leave "
                    'this objective out (the paper found no gain from it on depth)'
                )
    fields = ('min_depth', 'max_depth', 'num_bins') if bins else ('min_depth', 'max_depth')
    for name in fields:
        if getattr(own, name) != getattr(other, name):
            raise ViewError(
                f'decode_head.{name} is {getattr(own, name)} in the student and {getattr(other, name)} in the teacher: '
                'give both configs the same value, and train the teacher with it'
            )

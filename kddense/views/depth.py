"""Depth estimators: metres of every pixel, and what they are read from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.taps import Recording

from .base import ModelView, ViewError, is_a, is_unlabelled
from .segmentor import PixelOpinion, PixelSample, SegmentorView, inside_images


@dataclass(frozen=True)
class DepthSample(PixelSample):
    """The student's batch and its true depth.

    Attributes:
        depth: In metres, shape ``(N, H, W)``; 0 where it is not known or out of the student's range.
    """

    depth: Tensor

    def depth_at(self, size: Sequence[int]) -> Tensor:
        """Return the true depth for a map of ``size``, of the pixel at the middle of each cell, ``(N, 1, h, w)``."""
        return F.interpolate(self.depth[:, None], tuple(size), mode='nearest-exact')


@dataclass(frozen=True)
class DepthOpinion(PixelOpinion):
    """What one head says of every pixel; ``logits`` are its decoder's, one channel or one for each bin.

    Attributes:
        head: The :class:`kddense.models.DepthHead` that said it.
    """

    head: Any

    @property
    def depth(self) -> Tensor:
        """Depth in metres, shape ``(N, 1, h, w)``, float32."""
        return self.head.to_depth(self.logits)

    @property
    def position(self) -> Tensor:
        """Depth on a logarithmic scale, 0 at the head's least depth and 1 at its greatest, ``(N, 1, h, w)``."""
        low, high = math.log(self.head.min_depth), math.log(self.head.max_depth)
        return (self.depth.log() - low) / (high - low)


class DepthView(SegmentorView):
    """Every ``DepthEstimator`` of mmseg whose heads are :class:`kddense.models.DepthHead`.

    Its heads are pixel classifiers as a segmentor's are, with bins for classes, or with one channel; so whatever compares
    features before the classifier works on both families.
    """

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
        if not isinstance(view, DepthView):
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

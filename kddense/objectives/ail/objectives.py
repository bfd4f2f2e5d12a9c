"""Saputra et al., Distilling Knowledge From a Deep Pose Regressor Network, ICCV 2019: imitation where the teacher is right.

``L = α L_task + (1 - α) Φ ‖s - t‖²`` and, on features, ``L_hint = Φ ‖Ψ_s - Ψ_t‖²``, with ``Φ = 1 - e / η``. The paper trains
in two stages, the hint first, then the rest with the hinted layers frozen; here both are objectives that may run side by
side or one after the other (their weights' ``start`` and ``stop``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kddense.connectors import match_size
from kddense.exchange import Answer, DenseSample, DepthOpinion, DepthSample
from kddense.losses import AttentiveHintLoss, AttentiveImitationLoss, sample_error
from kddense.objectives.ail.teacher_error import RUNNING, TeacherErrorRange
from kddense.registry import MODELS
from kddense.views import ModelView, check_depth_scale

from .._averages import count_of
from ..base import Objective
from ..chen2017 import names_by_stage
from ..feature import FeatureObjective
from ..heads import HeadObjective

BOX_ERROR = "squared error of a positive's box in the space of its head"
DEPTH_ERROR = 'mean absolute difference of depth in the regressed space, per image'
# By kind of head, the student's own losses of boxes.
BOX_LOSSES = {'roi': r'(s\d+\.)?loss_bbox', 'rpn': r'loss_rpn_bbox', 'dense': r'loss_(bbox|dfl)'}


class MeasuresTeacher(Objective):
    """An objective that trusts the teacher by how wrong it is, relative to its errors on the whole training set.

    Attributes:
        error_range: η. ``kddense teacher-errors`` measures it before the training.
        measure: What an error is, as written into the file of a measurement.
    """

    measure: str
    error_range: TeacherErrorRange

    def teacher_errors(self, seen: Answer, taught: Answer) -> Tensor:
        """Return the teacher's error on every sample of a batch that has a ground truth, shape ``(S,)``."""
        raise NotImplementedError

    def check_run(self, config: str | None, checkpoint: str | None) -> None:
        super().check_run(config, checkpoint)
        self.error_range.check_run(config, checkpoint)


@MODELS.register_module()
class AttentiveBoxObjective(MeasuresTeacher):
    """Attentive imitation of boxes: the teacher's box, as far as it is right about this very object.

    Compared are the positives of the student, in the head's own space: deltas, or distances in strides. The teacher's error
    e is ``‖t - y‖²`` of the positive. As the head's own box loss, the term is averaged over all sampled RoIs or anchors in a
    two-stage detector, over the positives (of all processes) in a one-stage detector. The stages of a cascade share one η.

    Args:
        alpha: The paper's α: the student's own box losses are scaled by it, the imitation by 1 - α. Not known; 0.5.
        on: ``'roi'``, ``'rpn'``, or ``'dense'`` for one-stage detectors; by default ``'roi'`` where there is one.
        error_range: η: a number; the path of a file written by ``kddense teacher-errors``; or ``'running'``, the
            range seen so far.
        percentile: With a file, the percentile of the errors that stands for the greatest.
        clamp: Keep Φ in [0, 1]; the paper does not, and so pushes the student away from the worst of the teacher.
        weight: Scales all of it, the change of the student's own losses by α too.
        teacher: See :class:`Objective`.
    """

    measure = BOX_ERROR
    of_labelled = True

    def __init__(
        self,
        alpha: float = 0.5,
        on: str | None = None,
        error_range: float | str = RUNNING,
        percentile: float | None = None,
        clamp: bool = True,
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        if not 0 <= alpha <= 1:
            raise ValueError(f'alpha must lie in [0, 1], got {alpha}')
        if on is not None and on not in BOX_LOSSES:
            raise ValueError(f"on must be 'roi', 'rpn' or 'dense', got {on!r}")
        self.alpha = alpha
        self.on = on
        self.error_range = TeacherErrorRange(error_range, percentile, self.measure)
        self.loss = AttentiveImitationLoss(clamp=clamp)

    @property
    def is_off(self) -> bool:
        return super().is_off or self.alpha == 1

    @property
    def asks_teacher(self) -> bool:
        return True

    @property
    def kind(self) -> str:
        """The kind of head that it distils."""
        return next(iter(self.kinds))

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        self.kinds = frozenset({self.on or ('dense' if 'dense' in student.kinds else 'roi')})
        super().bind(student, teacher)
        self.loss_names = names_by_stage(student, self.kind, ['loss_bbox'])

    def task_scales(self) -> dict[str, float]:
        return {BOX_LOSSES[self.kind]: self.alpha}

    def teacher_errors(self, seen: Answer, taught: Answer) -> Tensor:
        return torch.cat(self._errors(seen, taught))

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        errors = self._errors(seen, taught)
        # Once for all stages: in another process a cascade may end earlier.
        span = self.error_range(torch.cat(errors))
        samples, ours, theirs = (side[self.kind] for side in (seen.samples, seen.opinions, taught.opinions))
        losses = {}
        for stage, (sample, own, other, error) in enumerate(zip(samples, ours, theirs, errors, strict=True)):
            prefix = f's{stage}.' if len(samples) > 1 else ''
            count = count_of(sample) if isinstance(sample, DenseSample) else sample.num_sampled
            box = self.loss(own.deltas, other.deltas, sample.targets, span, error=error, num_samples=count)
            losses[f'{prefix}loss_bbox'] = getattr(sample, 'weight', 1.0) * (1 - self.alpha) * box
        return losses

    def _errors(self, seen: Answer, taught: Answer) -> list[Tensor]:
        pairs = zip(seen.samples[self.kind], taught.opinions[self.kind], strict=True)
        return [self.loss.teacher_error(other.deltas, sample.targets) for sample, other in pairs]


@MODELS.register_module()
class AttentiveDepthObjective(HeadObjective, MeasuresTeacher):
    """Attentive imitation of a depth estimator: the teacher's depth, as far as it is right about the image or the pixel.

    Compared in the space that the student regresses, logarithmic unless its ``target`` is ``'linear'``, at the stride of the
    heads. The teacher's error e is the mean absolute difference to the true depth over an image's known pixels; pixels of
    unknown depth, and images without any other, count nowhere. Squared differences are averaged over an image's known
    pixels, then over the images.

    Args:
        alpha: The paper's α: the student's own depth losses are scaled by it, the imitation by 1 - α. Not known; 0.5.
        per: One Φ per ``'image'``, or per ``'pixel'`` from the pixel's own error, with the same η.
        error_range: η: a number; the path of a file written by ``kddense teacher-errors``; or ``'running'``, the
            range seen so far.
        percentile: With a file, the percentile of the errors that stands for the greatest.
        clamp: Keep Φ in [0, 1]; the paper does not, and so pushes the student away from the worst of the teacher.
        weight: Scales all of it, the change of the student's own losses by α too.
        **kwargs: See :class:`HeadObjective`.
    """

    measure = DEPTH_ERROR

    def __init__(
        self,
        alpha: float = 0.5,
        per: str = 'image',
        error_range: float | str = RUNNING,
        percentile: float | None = None,
        clamp: bool = True,
        weight: float | str | Mapping[str, Any] = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, **kwargs)
        if not 0 <= alpha <= 1:
            raise ValueError(f'alpha must lie in [0, 1], got {alpha}')
        if per not in ('image', 'pixel'):
            raise ValueError(f"per must be 'image' or 'pixel', got {per!r}")
        self.alpha = alpha
        self.per = per
        self.error_range = TeacherErrorRange(error_range, percentile, self.measure)
        self.loss = AttentiveImitationLoss(per='sample' if per == 'image' else 'entry', entries='mean', clamp=clamp)

    @property
    def is_off(self) -> bool:
        return super().is_off or self.alpha == 1

    @property
    def compares_classes(self) -> bool:
        return False

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        check_depth_scale(student, teacher)
        super().bind(student, teacher)

    def task_scales(self) -> dict[str, float]:
        head = 'decode' if self.kind == 'pixels' else r'aux(_\d+)?'
        return {rf'{head}\.loss_.*': self.alpha}

    def teacher_errors(self, seen: Answer, taught: Answer) -> Tensor:
        return torch.cat(
            [_image_errors(*_compared(*triple, self.resize)[1:]) for triple in self.triples(seen, taught)]  # type: ignore[arg-type]
        )

    def judge(self, index: int, sample: Any, own: Any, other: Any) -> Tensor:
        student, teacher, truth, known = _compared(sample, own, other, self.resize)
        span = self.error_range(_image_errors(teacher, truth, known))
        if self.per == 'pixel':
            error = (teacher - truth).abs()
        else:
            error = sample_error(teacher, truth, known, norm='l1', entries='mean')
        return (1 - self.alpha) * self.loss(student, teacher, truth, span, error=error, mask=known)


@MODELS.register_module()
class AttentiveDepthHintObjective(FeatureObjective, MeasuresTeacher):
    """Attentive hint of a depth estimator: the teacher's feature, as far as its depth is right about the image.

    Φ is that of :class:`AttentiveDepthObjective`; images without a known depth are left out. Squared differences are
    averaged over a map's elements, then over images and levels.

    Args:
        tap: Where to listen; the backbone's last stage by default.
        levels: Which maps of it.
        error_range: See :class:`AttentiveDepthObjective`.
        percentile: See there.
        clamp: See there.
        connector: The layer to the teacher's channels, see :class:`FeatureObjective`.
        weight: See :class:`Objective`.
        **kwargs: See :class:`FeatureObjective`.
    """

    kinds = frozenset({'pixels'})
    measure = DEPTH_ERROR

    def __init__(
        self,
        tap: str = 'backbone',
        levels: tuple[int, ...] = (-1,),
        error_range: float | str = RUNNING,
        percentile: float | None = None,
        clamp: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(tap=tap, levels=levels, **kwargs)
        self.error_range = TeacherErrorRange(error_range, percentile, self.measure)
        self.loss = AttentiveHintLoss(clamp=clamp)

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        check_depth_scale(student, teacher)
        super().bind(student, teacher)

    def teacher_errors(self, seen: Answer, taught: Answer) -> Tensor:
        return _image_errors(*self._judged(seen, taught))

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        teacher, truth, known = self._judged(seen, taught)
        errors = _image_errors(teacher, truth, known)
        span = self.error_range(errors)
        with_truth = known.flatten(1).any(dim=1)
        losses = [
            self.loss(own[with_truth], other[with_truth], errors, span) for own, other in self.pairs(seen, taught)
        ]
        return {'loss': sum(losses[1:], losses[0]) / len(losses)}

    @staticmethod
    def _judged(seen: Answer, taught: Answer) -> tuple[Tensor, Tensor, Tensor]:
        (sample,), (own,), (other,) = (side['pixels'] for side in (seen.samples, seen.opinions, taught.opinions))
        return _compared(sample, own, other, 'student')[1:]


def _compared(
    sample: DepthSample, own: DepthOpinion, other: DepthOpinion, resize: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return both depths and the true one in the space that the student regresses, and which cells are known."""
    sized = match_size(own.logits, other.logits, resize)
    student, teacher = (replace(one, logits=logits).depth for one, logits in zip((own, other), sized, strict=True))
    truth = sample.depth_at(student.shape[-2:])
    known = truth > 0
    if own.head.target == 'linear':
        return student, teacher, truth, known
    return student.log(), teacher.log(), torch.where(known, truth, 1).log(), known


def _image_errors(teacher: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Return the teacher's error on every image that has a known depth."""
    errors = sample_error(teacher, truth, known, norm='l1', entries='mean')
    return errors[known.flatten(1).any(dim=1)]

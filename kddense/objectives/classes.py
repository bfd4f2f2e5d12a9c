"""What heads say of the classes of each of the student's samples: pixels, RoIs, anchors or points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kddense.connectors import match_size
from kddense.exchange import Answer
from kddense.views import ModelView, ViewError, check_depth_scale

from ._averages import averaged, check_average
from ._labels import PlaceLabels
from .base import Objective

KINDS = {'decode_head': 'pixels', 'auxiliary_head': 'auxiliary', 'roi_head': 'roi', 'bbox_head': 'dense'}


@dataclass(frozen=True)
class Judged:
    """What both networks' heads say of the same samples.

    Attributes:
        student: The student's logits, rows ``(M, C)`` or maps ``(N, C, h, w)``. Of a RoI head the last is the background.
        teacher: The teacher's, same shape.
        labels: The true classes, ``(M,)`` or ``(N, h, w)``, negative where there is none; the number of classes is the
            background of RoI heads and of sigmoid classes. ``None`` of maps, unless the objective needs them.
        weight: What the student's own losses of this head are multiplied with.
        sample: The sample.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor | None
    weight: float
    sample: Any


class ClassObjective(Objective):
    """Compares the class scores of the student's samples: summed over the stages of a RoI head, averaged over others.

    Args:
        on: ``'decode_head'``, ``'auxiliary_head'``, ``'roi_head'`` or ``'bbox_head'``; by default the one that the student
            has, of segmentors and depth estimators the decode head.
        classes: ``'softmax'`` or ``'sigmoid'``; by default what the student's head says.
        resize: Of maps, which side's are resized to the other's size, ``'student'`` or ``'teacher'``.
        **kwargs: See :class:`Objective`.

    Attributes:
        needs_labels: Whether it compares by the true classes.
        takes_bins: Whether it also compares the bins of depth estimators.
        loss: What it compares by, told here which ``classes`` it is given.
    """

    needs_labels = False
    takes_bins = False
    loss: Any

    def __init__(
        self, on: str | None = None, classes: str | None = None, resize: str = 'student', **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        for name, value, choices in (
            ('on', on, (*KINDS, None)),
            ('classes', classes, ('softmax', 'sigmoid', None)),
            ('resize', resize, ('student', 'teacher')),
        ):
            if value not in choices:
                raise ValueError(f'{name} must be one of {", ".join(map(repr, choices))}, got {value!r}')
        self.kind = KINDS[on] if on is not None else ''
        self.kinds = frozenset({self.kind} - {''})
        self.classes = classes
        self.resize = resize
        self.on_bins = False
        self.labels_of_pixels: PlaceLabels | None = None

    @property
    def asks_teacher(self) -> bool:
        return True

    @property
    def of_labelled(self) -> bool:  # type: ignore[override]
        return self.needs_labels and self.kind in ('roi', 'dense')

    @property
    def compares_classes(self) -> bool:
        return not self.on_bins

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        self.kind = self.kind or _kind_of(student)
        self.kinds = frozenset({self.kind})
        self.on_bins = student.shows_depth or teacher.shows_depth
        if self.on_bins and not self.takes_bins:
            raise ViewError(f'{type(self).__name__} compares classes, and a depth estimator has none')
        if self.on_bins:
            check_depth_scale(student, teacher, bins=True)
        super().bind(student, teacher)
        if self.kind in ('pixels', 'auxiliary'):
            self._check_maps(student, teacher)
            self.labels_of_pixels = PlaceLabels(student) if self.needs_labels else None
        sigmoid = self.kind == 'dense' or student.is_sigmoid(self.kind)
        self.classes = self.classes or ('sigmoid' if sigmoid else 'softmax')
        self.loss.classes = self.classes

    def _check_maps(self, student: ModelView, teacher: ModelView) -> None:
        ours, theirs = (view.probe_opinions(self.kind) for view in (student, teacher))
        if len(ours) != len(theirs):
            raise ViewError(
                f'the student has {len(ours)} auxiliary heads and the teacher {len(theirs)}: there must be as many'
            )
        for own, other in zip(ours, theirs, strict=True):
            if own.logits.shape[1] != other.logits.shape[1]:
                raise ViewError(
                    f'the student has {own.logits.shape[1]} classes and the teacher {other.logits.shape[1]}; choose and '
                    "order the teacher's with teacher.class_map, one name or index for each class of the student"
                )

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        losses = [judged.weight * self.judge(judged) for judged in self.judged(seen, taught)]
        total = sum(losses[1:], losses[0])
        return {'loss': total if self.kind == 'roi' else total / len(losses)}

    def judge(self, judged: Judged) -> Tensor:
        """Return the loss of one head, a scalar."""
        raise NotImplementedError

    def judged(self, seen: Answer, taught: Answer) -> Iterator[Judged]:
        """Yield what both say, head by head."""
        triples = zip(seen.samples[self.kind], seen.opinions[self.kind], taught.opinions[self.kind], strict=True)
        for sample, own, other in triples:
            if self.kind in ('roi', 'dense'):
                labels = sample.labels if self.kind == 'dense' else _labels_of_rois(sample, own.logits.shape[1] - 1)
                yield Judged(own.logits, other.logits, labels, getattr(sample, 'weight', 1.0), sample)
            else:
                student, teacher = match_size(own.logits, other.logits, self.resize)
                yield Judged(student, teacher, self._labels(seen.batch, student), 1.0, sample)

    def _labels(self, batch: Any, logits: Tensor) -> Tensor | None:
        if self.labels_of_pixels is None:
            return None
        labels = self.labels_of_pixels.at(batch, (logits.shape[2], logits.shape[3]))
        # A single logit is that of class 1, and class 0 its background.
        return torch.where(labels < 0, labels, 1 - labels) if logits.shape[1] == 1 else labels


class AveragedClassObjective(ClassObjective):
    """Compares classes by a loss that is the mean over samples; of one-stage detectors by another divisor if asked.

    Args:
        average: Of one-stage detectors, what the sum over places is divided by, ``'rows'`` or ``'positives'``.
        **kwargs: See :class:`ClassObjective`.
    """

    def __init__(self, average: str = 'rows', **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_average(average)
        self.average = average

    @property
    def of_labelled(self) -> bool:  # type: ignore[override]
        return super().of_labelled or (self.kind == 'dense' and self.average == 'positives')

    def judge(self, judged: Judged) -> Tensor:
        return averaged(self.loss(judged.student, judged.teacher), judged.sample, self.average)


def _kind_of(student: ModelView) -> str:
    for kind in ('pixels', 'roi', 'dense'):
        if kind in student.kinds:
            return kind
    raise ViewError(f'{student.owner} ({type(student.model).__name__}) has no classifier to compare')


def _labels_of_rois(sample: Any, background: int) -> Tensor:
    labels = torch.full((sample.num_sampled,), background, device=sample.rois.device)
    labels[sample.positive] = sample.labels
    return labels

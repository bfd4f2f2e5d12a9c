"""Several teachers that speak as one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.connectors import match_size
from kddense.exchange import (
    Answer,
    Batch,
    BoxOpinion,
    DenseOpinion,
    DepthOpinion,
    ImageFormat,
    MapOpinion,
    MaskOpinion,
    Question,
    ViewError,
)
from kddense.registry import TEACHERS
from kddense.taps import map_tensors, tensors_of
from kddense.views import ModelView

from .average import AverageTeacher
from .base import Teacher
from .build import build_teacher
from .member_weights import by_image, errors_of, weights_by_error

WEIGHTED = ('pixels', 'auxiliary', 'roi', 'rpn')
MATCHED = ('queries', 'predictions', 'mask_queries')


@TEACHERS.register_module()
class EnsembleTeacher(Teacher):
    """The mean of several teachers: of class probabilities where heads speak, of values at taps.

    With ``by='error'`` a member counts less the more it is wrong about the sample: each pixel, RoI or anchor has weights of
    its own, features those of their image. See :func:`kddense.teachers.member_weights.weights_by_error`.

    All members are asked the same; each has its own image format, precision and class map.

    Args:
        members: Configs of at least two teachers, each as the ``teacher`` of a :class:`kddense.Distiller`.
        by: ``'mean'``, or ``'error'``: the cross-entropy with the labels, of pixels, RoIs and the boxes of an RPN; of
            softmax classes. Features are weighted by the errors of pixels, or of the RoIs that an objective compares.
        name: What messages call it: the config key it came from.

    Raises:
        ValueError: If there are fewer than two members, or one does not fit.

    Example:
        >>> teacher = dict(
        ...     type='kddense.EnsembleTeacher',
        ...     members=[dict(config='a.py', checkpoint='a.pth'), dict(config='b.py', checkpoint='b.pth')])
    """

    def __init__(
        self, members: Sequence[Mapping[str, Any]], by: Literal['mean', 'error'] = 'mean', name: str = 'teacher'
    ) -> None:
        super().__init__(name)
        if by not in ('mean', 'error'):
            raise ValueError(f"{name}.by must be 'mean' or 'error', got {by!r}")
        if not isinstance(members, (list, tuple)) or len(members) < 2:
            raise ValueError(f'{name}.members must be a list of at least two teachers, got {members!r}')
        self.members = nn.ModuleList(
            build_teacher(member, f'{name}.members[{index}]') for index, member in enumerate(members)
        )
        for index, member in enumerate(self._all):
            if isinstance(member, AverageTeacher):
                raise ValueError(
                    f'{name}.members[{index}] follows the student, and is moved as a teacher of its own alone: give it a '
                    'name beside the ensemble, and an objective of its own'
                )
            if member.datasets is not None or member.view.known_classes is not None:
                raise ValueError(
                    f'{name}.members[{index}] must speak of all images and classes, as its mean with the others is of all: '
                    'leave out its `datasets` and gaps in its `class_map`, or give it an objective of its own'
                )
        self.view = _EnsembleView([member.view for member in self._all], name, by == 'error')
        if by == 'error':
            self.unkept = 'its members count by their errors, which depend on labels; but each member may keep its own'
        self.classes = self._all[0].classes
        self.class_map = self._all[0].class_map

    @property
    def model(self) -> Any:
        """The model of the first member."""
        return self._all[0].model

    @property
    def _all(self) -> list[Any]:
        return list(self.members)

    def identity(self) -> dict[str, str]:
        own = [member.identity() for member in self._all]
        return {key: ' '.join(one[key] for one in own) for key in ('weights', 'teacher')}

    def check_images(self, student: ImageFormat) -> None:
        for member in self._all:
            member.check_images(student)

    def check_classes(self, student: Sequence[str] | None, what: str) -> None:
        for member in self._all:
            member.check_classes(student, what)

    def answer(self, question: Question, batch: Batch) -> Answer:
        view: Any = self.view
        asked = view.with_errors(question)
        answers = [member.answer(asked, batch) for member in self._all]
        mean = view.mean(answers, batch)
        return replace(mean, opinions={kind: mean.opinions[kind] for kind in question.opinions}, teacher=self)


class _EnsembleView(ModelView):
    """Shows what all members show."""

    def __init__(self, members: Sequence[ModelView], owner: str, by_error: bool = False) -> None:
        first = members[0]
        super().__init__(
            first.model,
            owner,
            first.input_scale,
            first.class_map,
            first.image_format,
            frozen=True,
            patch_size=first.patch_size,
            stretched=first.is_stretched,
        )
        self.members = members
        self.by_error = by_error
        self.explains = first.explains
        self.sampled_kinds = first.sampled_kinds
        self.shows_depth = first.shows_depth

    def check(self, kind: str) -> None:
        for member in self.members:
            member.check(kind)

    def check_teacher(self, kind: str) -> None:
        for member in self.members:
            member.check_teacher(kind)
        if kind in MATCHED:
            raise ViewError(
                f'{self.owner} is an ensemble, and what its members say of queries has no mean, each has its own: give the '
                'objective one of them as its teacher'
            )
        if len({member.is_sigmoid(kind) for member in self.members}) > 1:
            no_mean = 'sigmoid and softmax classes, which have no mean: give the objective one of them as its teacher'
            raise ViewError(f"{self.owner} is an ensemble, and of '{kind}' its members have {no_mean}")
        if self.by_error and (kind not in WEIGHTED or (self.is_sigmoid(kind) and kind != 'rpn')):
            raise ViewError(
                f"{self.owner}.by='error' weights softmax classes of pixels and RoIs, and features; what a head says of "
                f"'{kind}' here is none: leave it out"
            )

    def with_errors(self, question: Question) -> Question:
        """Return a question by whose answer features can be weighted."""
        if not self.by_error or not question.taps or question.opinions & {'pixels', 'roi'}:
            return question
        if 'pixels' not in self.members[0].kinds:
            raise ViewError(
                f"{self.owner}.by='error' weights features by the errors of pixels or RoIs: add an objective that compares "
                "RoIs, or take by='mean'"
            )
        return replace(question, opinions=question.opinions | {'pixels'})

    def differences_from(self, student: ModelView, kind: str) -> list[str]:
        return [one for member in self.members for one in member.differences_from(student, kind)]

    def is_sigmoid(self, kind: str) -> bool:
        return self.members[0].is_sigmoid(kind)

    def kinds_behind(self, taps: Iterable[str]) -> frozenset[str]:
        return self.members[0].kinds_behind(taps)

    def probe_samples(self, kinds: Iterable[str]) -> dict[str, list[Any]]:
        return self.members[0].probe_samples(kinds)

    def answer_to_blank(self, question: Question) -> Answer:
        return self.mean([member.answer_to_blank(question) for member in self.members])

    def mean(self, answers: Sequence[Answer], batch: Batch | None = None) -> Answer:
        """Return the mean of several answers to one question; by their errors on a batch, if that is what counts."""
        first = answers[0]
        heads = {kind: list(zip(*(one.opinions[kind] for one in answers), strict=True)) for kind in first.opinions}
        errors: dict[str, list[Tensor | None]] = {kind: [None] * len(found) for kind, found in heads.items()}
        of_images = None
        if self.by_error and batch is not None:
            errors = {kind: [errors_of(one, batch) for one in found] for kind, found in heads.items()}
            kind = next((one for one in ('pixels', 'roi') if one in heads), None)
            known = errors[kind][-1] if kind else None
            if kind and known is not None:
                of_images = weights_by_error(by_image(known, heads[kind][-1][0], len(batch.inputs)))
        return replace(
            first,
            taps=self._means([answer.taps for answer in answers], of_images),
            gradients=self._means([answer.gradients for answer in answers], None),
            opinions={
                kind: [
                    _mean_opinion(one, self.is_sigmoid(kind), None if error is None else weights_by_error(error))
                    for one, error in zip(found, errors[kind], strict=True)
                ]
                for kind, found in heads.items()
            },
        )

    def _means(self, values: Sequence[Mapping[str, Any]], weight: Tensor | None) -> dict[str, Any]:
        return {tap: self._mean_of_values(tap, [one[tap] for one in values], weight) for tap in values[0]}

    def _mean_of_values(self, tap: str, values: Sequence[Any], weight: Tensor | None) -> Any:
        groups = list(zip(*(tensors_of(value) for value in values), strict=False))
        if any(len({tensor.shape for tensor in group}) > 1 for group in groups):
            raise ViewError(
                f"tap '{tap}': the members of the {self.owner} show values of different shapes, which have no mean; tap "
                'them where they agree'
            )
        means = iter([_weighted_mean(torch.stack(group), weight) for group in groups])
        return map_tensors(lambda _: next(means), values[0])


def _weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of members' features; weights by image, ``(K, N)``, count where there is one entry for each image."""
    if weight is None or values.shape[1:2] != weight.shape[1:]:
        return values.mean(dim=0)
    return (values * weight.to(values).view(*weight.shape, *[1] * (values.dim() - 2))).sum(dim=0)


def _mean_opinion(opinions: Sequence[Any], sigmoid: bool, weight: Tensor | None = None) -> Any:
    """Return the mean of what several models say about the same things; of softmax classes by weights of each thing."""
    first = opinions[0]
    softmax = _log_mean_softmax if weight is None else functools.partial(_log_weighted_softmax, weight=weight)

    def over(mean: Callable[[Sequence[Tensor]], Tensor], name: str) -> Tensor:
        return mean([getattr(one, name) for one in opinions])

    if isinstance(first, DepthOpinion) and first.logits.shape[1] == 1:
        return replace(first, logits=over(_mean, 'logits'), feature=over(_mean, 'feature'))
    if isinstance(first, MapOpinion):
        logits = over(_log_mean_sigmoid if sigmoid else softmax, 'logits')
        return replace(first, logits=logits, feature=over(_mean, 'feature'))
    if isinstance(first, MaskOpinion):
        return replace(first, logits=_log_mean_sigmoid([one.logits[:, None] for one in opinions])[:, 0])
    if isinstance(first, BoxOpinion):
        if weight is None:
            return replace(first, logits=over(softmax, 'logits'), deltas=over(_mean, 'deltas'))
        deltas = torch.stack([one.deltas for one in opinions]) * weight[:, first.sample.positive, None]
        return replace(first, logits=over(softmax, 'logits'), deltas=deltas.sum(dim=0))
    assert isinstance(first, DenseOpinion)
    levels = range(len(first.score_maps))
    boxes = _mean if first.reg_max is None else _log_mean_bins(first.reg_max + 1)
    return replace(
        first,
        score_maps=tuple(_log_mean_sigmoid([one.score_maps[level] for one in opinions]) for level in levels),
        box_maps=tuple(boxes([one.box_maps[level] for one in opinions]) for level in levels),
    )


def _mean(values: Sequence[Tensor]) -> Tensor:
    """Return the mean of maps, of the size of the first; features of several widths have none, and are left out."""
    if len({value.shape[1] for value in values}) > 1:
        return values[0].new_zeros(len(values[0]), 0, *values[0].shape[2:])
    return torch.stack(_of_one_size(values)).mean(dim=0)


def _log_mean_softmax(values: Sequence[Tensor]) -> Tensor:
    """Return logits whose softmax over the classes is the mean of the members' probabilities."""
    return torch.stack([value.log_softmax(dim=1) for value in _of_one_size(values)]).logsumexp(dim=0)


def _log_weighted_softmax(values: Sequence[Tensor], weight: Tensor) -> Tensor:
    """Return logits whose softmax is the weighted mean of the members' probabilities."""
    logits = torch.stack([value.log_softmax(dim=1) for value in _of_one_size(values)])
    return (logits + weight.to(logits).log().unsqueeze(2)).logsumexp(dim=0)


def _log_mean_sigmoid(values: Sequence[Tensor]) -> Tensor:
    """Return logits whose sigmoid is the mean of the members' probabilities."""
    values = _of_one_size(values)
    yes = torch.stack([F.logsigmoid(value) for value in values]).logsumexp(dim=0)
    no = torch.stack([F.logsigmoid(-value) for value in values]).logsumexp(dim=0)
    return yes - no


def _log_mean_bins(bins: int) -> Callable[[Sequence[Tensor]], Tensor]:
    def mean(values: Sequence[Tensor]) -> Tensor:
        edges = [value.unflatten(1, (-1, bins)).transpose(1, 2) for value in values]
        return _log_mean_softmax(edges).transpose(1, 2).flatten(1, 2)

    return mean


def _of_one_size(values: Sequence[Tensor]) -> list[Tensor]:
    return [match_size(value, values[0])[0] for value in values]

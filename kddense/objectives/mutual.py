"""Deep mutual learning (Zhang et al., CVPR 2018): two students that learn the task, and each from the other."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from mmengine.registry import DefaultScope
from torch import Tensor, nn

from kddense.configs import class_names, classes_of, config_from_text, current_scope, plain_model, read_config
from kddense.errors import within
from kddense.exchange import Answer, Batch, ImageFormat
from kddense.random_state import fixed_random_state
from kddense.registry import MODELS
from kddense.taps import map_tensors
from kddense.teachers.images import TeacherImages
from kddense.views import ModelView, build_view

from .base import Objective
from .shares import sum_of

OWN = ('loss_peer', 'loss_peer_task')


@MODELS.register_module()
class MutualObjective(Objective):
    """A second student, the peer, that trains beside the first: each learns the task, and what the other says.

    Both see the same images in the same step; what each says is a target for the other, through which no gradient
    flows. The peer is trained by the student's optimiser, and is no part of the student's checkpoint; it is restored on
    resuming, and :class:`kddense.PeerHook` writes it as a plain checkpoint of its own.

    Args:
        peer: A model's config as it stands in its own file; or a whole config, a path or ``'package::path'``, of which the
            model is taken.
        compare: The objective by which both learn from each other, with a constant weight: one that compares taps, or what
            heads say at places that both share (pixels, pyramids of one-stage detectors).
        peer_weight: A factor for what the peer learns from the student.
        seed: Of the peer's first weights, which must not be the student's.
        weight: Of what the student learns from the peer. While it is 0, before its ``start`` say, the peer rests too.
        **kwargs: See :class:`Objective`.

    Raises:
        ValueError: If the two cannot learn from each other, such as peers of different classes.

    Example:
        >>> objectives = dict(mutual=dict(
        ...     type='kddense.MutualObjective', peer='my_peer.py', compare=dict(type='kddense.PixelWiseObjective')))
    """

    def __init__(
        self,
        peer: str | Mapping[str, Any],
        compare: Mapping[str, Any],
        peer_weight: float = 1.0,
        seed: int = 1,
        weight: float | str | Mapping[str, Any] = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, **kwargs)
        with within('compare', compare):
            self.forth, self.back = (MODELS.build(copy.deepcopy(dict(compare))) for _ in range(2))
        if not isinstance(self.forth, Objective) or self.forth.trains_adversary or self.forth.gradient_taps:
            raise ValueError('compare must be an objective that compares taps or opinions of heads on shared places')
        if not isinstance(compare.get('weight', 1.0), (int, float)):
            raise ValueError(
                f"compare.weight must be a number, got {compare['weight']!r}: the schedule is mutual's own"
            )
        self.peer_weight = peer_weight
        self.peer_classes: tuple[str, ...] | None = None
        self.peer = _Peer(self._built(peer), seed)
        self.kinds = self.forth.kinds
        self.student_taps = self.forth.student_taps | self.back.teacher_taps
        self.loss_names = (*self.forth.loss_names, *OWN)
        self.own_losses = frozenset({*self.forth.own_losses, *OWN})

    @property
    def asks_teacher(self) -> bool:
        return False

    @property
    def compares_classes(self) -> bool:
        return False

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        model: Any = self.peer.model
        with within('peer'):
            own, other = (_number_of_classes(one) for one in (student.model, model))
            if own != other:
                raise ValueError(f'it has {other} classes and the student {own}: both must have the same classes')
            self.format = ImageFormat.of(getattr(model, 'data_preprocessor', None))
            self.view = build_view(model, owner='peer', image_format=self.format)
            self.forth.attach(student, {'peer': self.view})
            self.back.attach(self.view, {'student': student})
        self.images = TeacherImages(self.format, 1.0, 'student', 'peer')
        self.student_taps = self.forth.student_taps | self.back.teacher_taps

    def check_run(self, config: str | None, checkpoint: str | None) -> None:
        own = classes_of(config_from_text(config)) if config else None
        if own and self.peer_classes and own != self.peer_classes:
            raise ValueError(
                f'peer: its classes are {", ".join(self.peer_classes)}, those of the run {", ".join(own)}: both must have '
                'the same classes in the same order'
            )

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        assert seen.batch is not None
        images, _ = self.images.of(seen.batch)
        batch = Batch(images, seen.batch.data_samples, self.format)
        taps = self.back.student_taps | self.forth.teacher_taps
        heard = self.view.learn(self.peer.model, batch, taps, self.back.kinds)
        student = self._weighted(self.forth, seen, heard)
        peer = self._weighted(self.back, heard, seen)
        both = [sum_of(peer), sum_of(heard.losses)]
        zero = images.sum() * 0
        found = dict(zip(OWN, (zero if one is None else one for one in both), strict=True))
        return student | {OWN[0]: self.peer_weight * found[OWN[0]], OWN[1]: found[OWN[1]]}

    def _weighted(self, objective: Objective, learner: Answer, other: Answer) -> dict[str, Tensor]:
        weight = objective.schedule(0)
        losses = objective(learner, _fixed(other))
        return {key: value * (weight if 'loss' in key else 1) for key, value in losses.items()}

    def _built(self, peer: str | Mapping[str, Any]) -> nn.Module:
        scope = current_scope()
        if isinstance(peer, (str, Path)):
            config = read_config(str(peer), 'peer')
            self.peer_classes = class_names(classes_of(config))
            scope = config.get('default_scope') or scope
            peer = plain_model(config)
        with within('peer', peer), DefaultScope.overwrite_default_scope(scope):
            return MODELS.build(copy.deepcopy(dict(peer)))


class _Peer(nn.Module):
    """Initialises a model with random numbers of its own: the student is given the stream's next ones."""

    def __init__(self, model: nn.Module, seed: int) -> None:
        super().__init__()
        self.model = model
        self.seed = seed

    def init_weights(self) -> None:
        with fixed_random_state(self.seed):
            self.model.init_weights()  # type: ignore[operator]


def _number_of_classes(model: Any) -> int | None:
    for head in ('decode_head', 'bbox_head'):
        if hasattr(model, head):
            return getattr(getattr(model, head), 'num_classes', None)
    return getattr(getattr(getattr(model, 'roi_head', None), 'bbox_head', None), 'num_classes', None)


def _fixed(answer: Answer) -> Answer:
    """Return an answer through which no gradient flows, as a teacher's."""
    return replace(
        answer,
        taps=map_tensors(lambda one: one.detach().float() if one.is_floating_point() else one, dict(answer.taps)),
        opinions={kind: [_detached(one) for one in heads] for kind, heads in answer.opinions.items()},
    )


def _detached(opinion: Any) -> Any:
    return replace(
        opinion,
        **{
            one.name: map_tensors(lambda value: value.detach(), getattr(opinion, one.name))
            for one in fields(opinion)
            if one.init
        },
    )

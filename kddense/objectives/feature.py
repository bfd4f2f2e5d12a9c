"""Any tap of any model against any tap of any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kddense.exchange import Answer, Shown
from kddense.registry import MODELS
from kddense.taps import tensors_of
from kddense.views import ModelView

from .maps import MapObjective

UNKNOWN = '(the shared feature)'  # a tap that is found once the models are known


@MODELS.register_module()
class FeatureObjective(MapObjective):
    """Compares what the student and the teacher show at a tap: one map, or all levels of a pyramid in one line.

    The loss is averaged over the levels. Maps of different sizes are resized; channels are connected by a learned layer.

    Args:
        tap: Where to listen in the student, such as ``'neck'`` or ``'decode_head'``; see :mod:`kddense.taps`. By default
            what all heads share: the neck's output, or the backbone's where there is no neck.
        teacher_tap: Where to listen in the teacher; by default the same place, or what its heads share. ``''`` is what the
            teacher itself returns, for which ``'backbone'`` stands where the teacher is a plain backbone.
        loss: A loss of two tensors ``(student, teacher) -> scalar``. One whose class has ``takes_any_channels = True``
            gets no connector where ``connector`` is ``'auto'``.
        connector: See :class:`MapObjective`; ``'auto'`` by default.
        **kwargs: See :class:`MapObjective`. ``levels`` count the tensors at the tap.

    Example:
        >>> hinton = dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss'))
    """

    def __init__(
        self,
        tap: str | None = None,
        teacher_tap: str | None = None,
        loss: Mapping[str, Any] | None = None,
        connector: str | Mapping[str, Any] | None = 'auto',
        **kwargs: Any,
    ) -> None:
        super().__init__(connector=connector, **kwargs)
        self.tap = UNKNOWN if tap is None else tap
        self.teacher_tap = self.tap if teacher_tap is None else teacher_tap
        self.loss: Any = MODELS.build(dict(loss or dict(type='kddense.HintLoss')))

    @property
    def student_taps(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({self.tap})

    @property
    def teacher_taps(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({self.teacher_tap})

    @property
    def compares_classes(self) -> bool:
        return bool(getattr(self.loss, 'compares_classes', False))

    def shown(self) -> Shown:
        return Shown() if self.tap == UNKNOWN else Shown(self.tap, self.teacher_tap)

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        if self.tap == '':
            raise ValueError("tap '': what the student itself returns in training are its losses; tap one of its parts")
        self.tap = shared_feature(student) if self.tap == UNKNOWN else self.tap
        if self.teacher_tap == UNKNOWN:
            self.teacher_tap = shared_feature(teacher)
        elif self.teacher_tap == 'backbone' and not _has_backbone(teacher):
            self.teacher_tap = ''
        super().bind(student, teacher)

    def probed(self, view: ModelView, side: str) -> list[Tensor]:
        tap = self._tap_of(side)
        return view.probe([tap])[tap]

    def items(self, answer: Answer, side: str) -> list[Tensor]:
        tensors = list(tensors_of(answer.taps[self._tap_of(side)]))
        if side == 'student' and torch.is_grad_enabled() and not any(tensor.requires_grad for tensor in tensors):
            raise ValueError(
                f"tap '{self.tap}': no gradient reaches this part of the student: it is frozen, or inside a part that runs "
                'under gradient checkpointing, which is heard only as a whole'
            )
        return tensors

    def place(self, side: str) -> str:
        return f" of what tap '{self._tap_of(side)}' holds"

    def _tap_of(self, side: str) -> str:
        return self.tap if side == 'student' else self.teacher_tap

    def check_pairs(self, ours: Any, theirs: Any) -> None:
        if len(ours) != len(theirs):
            raise ValueError(
                f"tap '{self.tap}' holds {len(ours)} tensors in the student and '{self.teacher_tap}' {len(theirs)} in the "
                'teacher; name those to compare with `levels` and `teacher_levels`'
            )

    def layer_between(self, own: Tensor, other: Tensor) -> nn.Module | None:
        if self.connector == 'auto' and own.dim() == other.dim() and getattr(self.loss, 'takes_any_channels', False):
            return None
        if not self.compares_classes or isinstance(self.connector, Mapping):
            return super().layer_between(own, other)
        dim = self.loss.dim
        if own.shape[dim] != other.shape[dim]:
            raise ValueError(
                f"tap '{self.tap}' has {own.shape[dim]} classes in the student and {other.shape[dim]} in the teacher; "
                f'{type(self.loss).__name__} needs a teacher of the same classes'
            )
        if own.shape[dim] == 1:
            self._check_one_logit()
        return None

    def _check_one_logit(self) -> None:
        key = 'classes' if hasattr(self.loss, 'classes') else 'mode'
        if getattr(self.loss, key, '') == 'softmax':
            raise ValueError(
                f"tap '{self.tap}' has one logit, of which a softmax is 1 whatever it is, so nothing would be learnt: "
                f"set loss.{key}='sigmoid'"
            )

    def compare(self, own: Tensor, other: Tensor) -> Tensor:
        return self.loss(own, other)


def shared_feature(view: ModelView) -> str:
    """Return the tap of what all heads of a model share; of a plain backbone what it returns."""
    if not _has_backbone(view):
        return ''
    return 'neck' if getattr(view.model, 'neck', None) is not None else 'backbone'


def _has_backbone(view: ModelView) -> bool:
    return getattr(view.model, 'backbone', None) is not None

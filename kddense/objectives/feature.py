"""Any tap of any model against any tap of any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kddense.connectors import build_connector, match_size
from kddense.exchange import Shown
from kddense.registry import MODELS
from kddense.taps import tensors_of
from kddense.views import Answer, ModelView

from .base import Objective


@MODELS.register_module()
class FeatureObjective(Objective):
    """Compares what the student and the teacher show at a tap: one map, or all levels of a pyramid in one line.

    The loss is averaged over the levels. Maps of different sizes are resized; channels are connected by a learned layer.

    Args:
        tap: Where to listen in the student, such as ``'neck'`` or ``'decode_head'``; see :mod:`kddense.taps`.
        teacher_tap: Where to listen in the teacher; the same place by default.
        loss: A loss of two tensors ``(student, teacher) -> scalar``.
        connector: ``'auto'`` connects the levels whose channels differ; a dict connects every level with such a layer
            (``dict(type='kddense.Connector', norm=dict(type='BN'))``); ``None`` never connects.
        levels: Which tensors to compare if the taps hold several, in the order of the tap; all by default.
        teacher_levels: The same for the teacher; ``levels`` by default.
        resize: Which side's maps are resized to the other's size, ``'student'`` or ``'teacher'``.
        weight: See :class:`Objective`.
        teacher: See :class:`Objective`.

    Example:
        >>> hinton = dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss'))
    """

    def __init__(
        self,
        tap: str,
        teacher_tap: str | None = None,
        loss: Mapping[str, Any] | None = None,
        connector: str | Mapping[str, Any] | None = 'auto',
        levels: Sequence[int] | None = None,
        teacher_levels: Sequence[int] | None = None,
        resize: str = 'student',
        weight: float | Mapping[str, Any] = 1.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        if connector not in ('auto', None) and not isinstance(connector, Mapping):
            raise ValueError(f"connector must be 'auto', None or a dict, got {connector!r}")
        if resize not in ('student', 'teacher'):
            raise ValueError(f"resize must be 'student' or 'teacher', got {resize!r}")
        self.tap = tap
        self.teacher_tap = teacher_tap or tap
        self.loss: Any = MODELS.build(dict(loss or dict(type='kddense.HintLoss')))
        self.connector = connector
        self.levels = levels
        self.teacher_levels = levels if teacher_levels is None else teacher_levels
        self.resize = resize
        self.connectors = nn.ModuleList()

    @property
    def student_taps(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({self.tap})

    @property
    def teacher_taps(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({self.teacher_tap})

    @property
    def compares_classes(self) -> bool:
        return bool(getattr(self.loss, 'compares_classes', False))

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        ours = _pick(student.probe([self.tap])[self.tap], self.levels, self.tap)
        theirs = _pick(teacher.probe([self.teacher_tap])[self.teacher_tap], self.teacher_levels, self.teacher_tap)
        if len(ours) != len(theirs):
            raise ValueError(
                f"tap '{self.tap}' holds {len(ours)} tensors in the student and '{self.teacher_tap}' {len(theirs)} in the "
                'teacher; name those to compare with `levels` and `teacher_levels`'
            )
        for own, other in zip(ours, theirs, strict=True):
            self.connectors.append(self._connect(own, other))

    def _connect(self, student: Tensor, teacher: Tensor) -> nn.Module:
        channels = 1 if student.dim() == 4 else -1
        layer = self.connector
        if self.compares_classes and not isinstance(layer, Mapping):
            self._check_classes(student, teacher)
            return nn.Identity()
        if layer == 'auto':
            layer = {} if student.dim() != teacher.dim() or student.shape[channels] != teacher.shape[channels] else None
        return build_connector(layer, student.shape, teacher.shape) or nn.Identity()  # type: ignore[arg-type]

    def _check_classes(self, student: Tensor, teacher: Tensor) -> None:
        dim = self.loss.dim
        if student.shape[dim] != teacher.shape[dim]:
            raise ValueError(
                f"tap '{self.tap}' has {student.shape[dim]} classes in the student and {teacher.shape[dim]} in the teacher; "
                f'{type(self.loss).__name__} needs a teacher of the same classes'
            )

    def shown(self) -> Shown:
        return Shown(student_tap=self.tap or None, teacher_tap=self.teacher_tap or None)

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        losses = [self.loss(*pair) for pair in self.pairs(seen, taught)]
        return {'loss': sum(losses[1:], losses[0]) / len(losses)}

    def pairs(self, seen: Answer, taught: Answer) -> list[tuple[Tensor, Tensor]]:
        """Return the student's feature, connected, and the teacher's, both of one size, for every level."""
        ours = _pick(list(tensors_of(seen.taps[self.tap])), self.levels, self.tap)
        theirs = _pick(list(tensors_of(taught.taps[self.teacher_tap])), self.teacher_levels, self.teacher_tap)
        if torch.is_grad_enabled() and not any(tensor.requires_grad for tensor in ours):
            raise ValueError(f"tap '{self.tap}': this part of the student is frozen, there is nothing that could learn")
        levels = zip(self.connectors, ours, theirs, strict=True)
        return [match_size(connector(own), other, self.resize) for connector, own, other in levels]


def _pick(tensors: list[Tensor], levels: Sequence[int] | None, tap: str) -> list[Tensor]:
    if levels is None:
        return tensors
    if not all(-len(tensors) <= level < len(tensors) for level in levels):
        raise ValueError(f"levels must lie in 0..{len(tensors) - 1}, what tap '{tap}' holds, got {list(levels)}")
    return [tensors[level] for level in levels]

"""Attention transfer by activations (section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from kddense.exchange import Answer
from kddense.registry import MODELS
from kddense.views import ModelView

from ..feature import FeatureObjective


@MODELS.register_module()
class ATObjective(FeatureObjective):
    """Attention transfer: where the student looks, level by level, against where the teacher does.

    The paper compares the last map of each group of layers of one resolution. So by default this compares, of all maps at
    the tap, the last of each resolution that both networks have; channels need not agree. The loss is the sum over these, as
    in the authors' code.

    Args:
        tap: A backbone or a neck, or any part of the student that returns maps.
        reduce: ``'sum'`` over channels, or their ``'max'``.
        power: The paper's p, at least 1.
        mode: ``'code'``: the mean of squared differences, with the weight 1000; ``'paper'``: the norm of the
            difference, with the weight β/2. See :func:`kddense.losses.attention_distance`.
        weight: The β of the authors' code by default.
        **kwargs: See :class:`FeatureObjective`. With ``levels`` or ``teacher_levels`` all those named are compared.
    """

    def __init__(
        self,
        tap: str = 'backbone',
        reduce: Literal['sum', 'max'] = 'sum',
        power: float = 2.0,
        mode: Literal['code', 'paper'] = 'code',
        weight: float | str | Mapping[str, Any] = 1000.0,
        **kwargs: Any,
    ) -> None:
        loss = dict(type='kddense.ATLoss', reduce=reduce, power=power, mode=mode)
        super().__init__(tap=tap, loss=loss, weight=weight, **kwargs)

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        if self.levels is None and self.teacher_levels is None and self.tap:
            ours, theirs = self.probed(student, 'student'), self.probed(teacher, 'teacher')
            if all(one.dim() == 4 for one in (*ours, *theirs)):
                self.levels, self.teacher_levels = same_resolutions(ours, theirs)
        super().bind(student, teacher)

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        losses = [self.compare(*pair) for pair in self.pairs(seen, taught)]
        return {'loss': sum(losses[1:], losses[0])}


def same_resolutions(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> tuple[list[int] | None, list[int] | None]:
    """Return the indices, on either side, of the last map of each resolution that both sides have.

    If they share none, as where the teacher sees a larger image, the resolutions are paired in their order if there are as
    many; else ``None`` on both sides.
    """
    own, other = ({tuple(one.shape[2:]): index for index, one in enumerate(maps)} for maps in (ours, theirs))
    shared = [size for size in own if size in other]
    if shared:
        return [own[size] for size in shared], [other[size] for size in shared]
    if len(own) == len(other):
        return list(own.values()), list(other.values())
    return None, None

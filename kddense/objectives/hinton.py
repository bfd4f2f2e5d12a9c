"""Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, arXiv:1503.02531: soft targets for dense heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kddense.exchange import Answer
from kddense.losses import HintonLoss
from kddense.registry import MODELS

from ._averages import averaged, check_average
from .base import Objective


@MODELS.register_module()
class DenseHintonObjective(Objective):
    """Soft targets on the sigmoid classes of a dense head, at the places that its own classification loss looks at.

    ``τ² · mean over places of Σ over classes KL(Bernoulli(σ(t / τ)) ‖ Bernoulli(σ(s / τ)))``. Both networks judge the same
    anchors or points. The paper treats softmax only; see :func:`kddense.losses.sigmoid_soft_target_divergence`.

    Args:
        temperature: The paper's T, above 0.
        average: What the sum over places is divided by. ``'rows'``: their number, where few are positive, so that the mean
            is small: structured distillation weights such a mean with 10. ``'positives'``: the number of positives, as
            the head's own focal loss, some hundred times less. But nothing here turns down the many easy places as
            that loss does: it wants a weight below 1, or a warm-up, lest it drown all else or diverge.
        weight: See :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    kinds = frozenset({'dense'})

    def __init__(
        self,
        temperature: float = 1.0,
        average: str = 'rows',
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        check_average(average)
        self.average = average
        self.loss = HintonLoss(temperature=temperature, mode='sigmoid')
        self.of_labelled = average == 'positives'

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        (sample,), (own,), (other,) = (side['dense'] for side in (seen.samples, seen.opinions, taught.opinions))
        return {'loss': averaged(self.loss(own.logits, other.logits), sample, self.average)}

"""Sun, Ohyama, CanKD: Cross-Attention-based Non-local operation for Feature-based Knowledge Distillation, WACV 2026."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kddense.exchange import Answer
from kddense.models import NonLocalBlock
from kddense.registry import MODELS

from .feature import FeatureObjective


@MODELS.register_module()
class CanKDObjective(FeatureObjective):
    """CanKD: every place of the student's map looks at all places of the teacher's before the two are compared.

    ``z = x + W(1 / M · Σ over j of θ(x)ᵀ φ(t_j) g(t_j))`` for the student's connected map x and the teacher's t, then half
    the mean squared difference of z and t after an instance norm of both; averaged over the levels.

    From the paper's text: the dot product divided by the number of places, values of the teacher alone, the residual, the
    instance norms, weight μ = 5. From the released code, which made its numbers: 1x1 convolutions to half the channels,
    keys and values pooled 2 x 2, a batch norm in W that begins with 0, a factor of ½ (so its weight is 10). Our own: the
    sum over places is taken first, which gives the same in the memory of the channels squared; and sizes: the code refuses
    maps that differ, here one side is resized; maps of fewer than two places give a 0.

    Args:
        tap: See :class:`FeatureObjective`.
        reduction: The block's inner channels are the teacher's divided by it.
        pool: Keys and values are pooled by squares of so many places.
        weight: See :class:`Objective`: twice the paper's μ.
        **kwargs: See :class:`FeatureObjective`.
    """

    def __init__(
        self,
        tap: str | None = None,
        reduction: int = 2,
        pool: int = 2,
        weight: float | str | Mapping[str, Any] = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(tap=tap, loss=dict(type='kddense.InstanceNormalisedLoss'), weight=weight, **kwargs)
        self.options = dict(reduction=reduction, pool=pool)
        self.blocks = nn.ModuleList()

    def bind_pair(self, own: Tensor, other: Tensor) -> None:
        super().bind_pair(own, other)
        if own.dim() != 4 or other.dim() != 4:
            raise ValueError(
                f'CanKD compares maps, got {own.dim()} and {other.dim()} dimensions; tap maps on both sides'
            )
        target = other if self.connect == 'student' else own
        self.blocks.append(NonLocalBlock(target.shape[1], **self.options))

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        pairs = self.pairs(seen, taught)
        losses = [self.loss(block(own, other), other) for block, (own, other) in zip(self.blocks, pairs, strict=True)]
        return {'loss': sum(losses[1:], losses[0]) / len(losses)}

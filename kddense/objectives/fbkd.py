"""Zhang, Ma, Improve Object Detection with Feature-based Knowledge Distillation, ICLR 2021."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kddense.exchange import Answer
from kddense.losses import root_distance, spatial_attention
from kddense.models import NonLocalBlock
from kddense.registry import MODELS

from .feature import FeatureObjective

TERMS = ('feature', 'channel', 'spatial', 'relation')


@MODELS.register_module()
class FBKDObjective(FeatureObjective):
    """FBKD: features where either network looks, what they attend to, and how their places relate.

    For each level, with the student's side behind layers of its own:

    * ``loss_feature``: the distance of the features, weighted by the mean of both networks' spatial attention.
    * ``loss_channel``, ``loss_spatial``: the distances of the means over places, and over channels.
    * ``loss_relation``: the distance of what a non-local block of each side makes of its level. The teacher's block
      learns too, as in the released codes.

    All are Euclidean distances over the whole batch, see :func:`kddense.losses.root_distance`, averaged over the levels: the
    codes add the levels up, which the recipe's weight makes good. The paper also weighs channels in ``loss_feature``; the
    codes that published numbers do not, nor does this.

    Args:
        tap: See :class:`FeatureObjective`.
        feature: Weight of ``loss_feature``.
        channel: Weight of ``loss_channel``.
        spatial: Weight of ``loss_spatial``.
        relation: Weight of ``loss_relation``.
        temperature: Of the attention, the paper's T.
        reductions: For each level, by what the non-local blocks divide the channels; the last one counts for all further
            levels.
        pools: The same for the squares of places of which the blocks take the greatest value.
        **kwargs: See :class:`FeatureObjective`; there is no connector.
    """

    loss_names = ('loss_feature', 'loss_channel', 'loss_spatial', 'loss_relation')

    def __init__(
        self,
        tap: str | None = None,
        feature: float = 7e-5,
        channel: float = 4e-3,
        spatial: float = 4e-3,
        relation: float = 7e-5,
        temperature: float = 0.5,
        reductions: Sequence[int] = (4, 4, 2, 2),
        pools: Sequence[int] = (8, 4, 2, 2),
        weight: float | str | Mapping[str, Any] = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(tap=tap, connector=None, weight=weight, **kwargs)
        self.weights = dict(zip(TERMS, (feature, channel, spatial, relation), strict=True))
        for name, value in self.weights.items():
            if not 0 <= value < float('inf'):
                raise ValueError(f'{name} must be a number that is at least 0, got {value}')
        self.temperature = temperature
        self.reductions, self.pools = list(reductions), list(pools)

    def bind_pair(self, own: Tensor, other: Tensor) -> None:
        level = len(self.connectors)
        if own.dim() != 4 or other.dim() != 4:
            raise ValueError(
                f'FBKD compares maps, got {own.dim()} and {other.dim()} dimensions; tap maps on both sides'
            )
        self.connectors.append(
            _Level(own.shape[1], other.shape[1], _at(self.reductions, level), _at(self.pools, level))
        )

    def connected(self, maps: list[Tensor]) -> list[Tensor]:
        return maps  # each term has its own layer

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        pairs = self.pairs(seen, taught)
        levels = [
            layers(own, other, self.temperature) for layers, (own, other) in zip(self.connectors, pairs, strict=True)
        ]
        return {
            f'loss_{name}': self.weights[name] * sum(level[name] for level in levels) / len(levels) for name in TERMS
        }


class _Level(nn.Module):
    """The layers of one level, and its four distances."""

    def __init__(self, own: int, other: int, reduction: int, pool: int) -> None:
        super().__init__()
        self.feature = nn.Conv2d(own, other, 1)
        self.channel = nn.Linear(own, other)
        self.spatial = nn.Conv2d(1, 1, 3, padding=1)
        self.student_relation = NonLocalBlock(own, reduction, pool)
        self.relation = nn.Conv2d(own, other, 1)
        self.teacher_relation = NonLocalBlock(other, reduction, pool)

    def forward(self, student: Tensor, teacher: Tensor, temperature: float) -> dict[str, Tensor]:
        attention = [spatial_attention(side.detach(), temperature) for side in (student, teacher)]
        return {
            'feature': root_distance(self.feature(student), teacher, (attention[0] + attention[1]) / 2),
            'channel': root_distance(self.channel(student.mean((2, 3))), teacher.mean((2, 3))),
            'spatial': root_distance(self.spatial(student.mean(1, keepdim=True)), teacher.mean(1, keepdim=True)),
            'relation': root_distance(self.relation(self.student_relation(student)), self.teacher_relation(teacher)),
        }


def _at(numbers: list[int], level: int) -> int:
    return numbers[min(level, len(numbers) - 1)]

"""Wang et al., KD-DETR: Detection Transformer with Consistent Distillation Points Sampling, CVPR 2024."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from kddense.exchange import Answer, Queries, QueryOpinion
from kddense.losses import QueryDistance, SharedQueryLoss
from kddense.registry import MODELS

from ._shared_numbers import SharedNumbers
from .base import mean_over_processes
from .queries import QueryObjective


@MODELS.register_module()
class KDDETRObjective(QueryObjective):
    """KD-DETR: both decoders judge the same queries, the teacher's own and random ones; see
    :func:`kddense.losses.shared_query_distance`.

    Each decoder layer of the student is compared with the teacher's last one, so the two may have different numbers of
    layers. A query counts as much as the teacher's greatest class probability for it.

    From the released code: the sum over the student's layers, the weights, the temperature, and what is random: where a
    query looks is drawn from a normal distribution in each step, before the sigmoid, and shared by all images. That code is
    for DAB-DETR alone. Our own, for others: the rest of a random query (its content, and the embedding of its position
    where it has reference points besides) is the teacher's.

    Args:
        specific: Whether the teacher's own queries are judged.
        general: How many random queries are judged; by default as many as the teacher has.
        temperature: The paper's T.
        average: What the sum over queries of the term of classes is divided by; see
            :func:`kddense.losses.shared_query_distance`.
        **kwargs: See :class:`QueryObjective`.

    Raises:
        ValueError: If no query is left to judge, or an option is out of its range.
    """

    kinds = frozenset({'queries'})

    def __init__(
        self,
        specific: bool = True,
        general: int | None = None,
        temperature: float = 10.0,
        average: Literal['images', 'batch', 'weights'] = 'images',
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if general is not None and general < 0:
            raise ValueError(f'general must be at least 0, got {general}')
        if not specific and general == 0:
            raise ValueError('general is 0 and specific is False: no query is left to judge; set one of the two')
        self.specific = specific
        self.general = general
        self.loss = SharedQueryLoss(temperature, average)

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        own, other = self.opinions(seen, taught)
        return self.weighted_sum([distance for pair in self._pairs(own, other) for distance in self._distances(*pair)])

    def _pairs(self, own: QueryOpinion, other: QueryOpinion) -> Iterator[tuple[QueryOpinion, QueryOpinion]]:
        if self.specific:
            yield own.judge(other.queries), other
        if self.general != 0:
            queries = _moved(other.queries, self.general or other.queries.count)
            yield own.judge(queries), other.judge(queries)

    def _distances(self, own: QueryOpinion, other: QueryOpinion) -> Iterator[QueryDistance]:
        logits, boxes, weight = (value[:, -1] for value in (other.logits, other.boxes, other.scores))
        divisor = mean_over_processes(weight.sum(), weight)
        for layer in range(own.logits.shape[1]):
            yield self.loss(own.logits[:, layer], own.boxes[:, layer], logits, boxes, weight, divisor)


def _moved(queries: Queries, count: int) -> Queries:
    """Return so many queries that look somewhere else: at random places, the same in all images and processes."""
    values: dict[str, Any] = {name: _repeated(value, count) for name, value in vars(queries).items()}
    numbered = replace(queries, **values)
    name = 'query_pos' if queries.reference_points is None else 'reference_points'
    before: Tensor = getattr(numbered, name)
    drawn = SharedNumbers().draw_for_all(before.shape[1:], before.float()).expand_as(before)
    return replace(numbered, **{name: drawn if name == 'query_pos' else drawn.sigmoid()})


def _repeated(value: Tensor | None, count: int) -> Tensor | None:
    if value is None or value.shape[1] == count:
        return value
    return value.repeat(1, -(-count // value.shape[1]), 1)[:, :count]

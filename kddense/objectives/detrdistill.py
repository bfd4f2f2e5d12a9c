"""Chang et al., DETRDistill: A Universal Knowledge Distillation Framework for DETR-families, ICCV 2023."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from kddense.exchange import Answer, QueryOpinion
from kddense.losses import MatchedLoss, QueryDistance
from kddense.registry import MODELS
from kddense.views import ModelView

from .base import mean_over_processes
from .queries import Layers, QueryObjective, check_layers, pairs_of_layers


@MODELS.register_module()
class DETRDistillObjective(QueryObjective):
    """DETRDistill's matched predictions: the teacher's predictions are targets beside the ground truth, each matched with
    one of the student's by the Hungarian algorithm, decoder layer by decoder layer; see
    :func:`kddense.losses.match_predictions` and :func:`kddense.losses.matched_distance`.

    The two models need not have the same queries, nor as many, nor be of one family: what is matched are sets of boxes.

    From the released code: all predictions of the teacher are matched, the costs' and the losses' forms, the mean over
    matched pairs, the sum over layers. Their weights stand in a file that it does not hold; here they are the weights that
    the family gives to its own losses. The paper's other two parts are :class:`TargetAwareObjective` and
    :class:`QueryPriorObjective`.

    Args:
        layers: ``'each'`` compares layer by layer, ``'last'`` each layer of the student with the teacher's last, for models
            with different numbers of layers.
        min_score: Only predictions of the teacher count whose greatest class probability is at least this.
        costs: What classes, L1 and overlaps count in the matching.
        **kwargs: See :class:`QueryObjective`.

    Raises:
        ValueError: If an option is out of its range; at build also if the numbers of layers differ.
    """

    kinds = frozenset({'predictions'})

    def __init__(
        self,
        layers: Layers = 'each',
        min_score: float = 0.0,
        costs: Sequence[float] = (1.0, 5.0, 2.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= min_score < 1:
            raise ValueError(f'min_score must be at least 0 and below 1, got {min_score}')
        self.layers = layers
        self.min_score = min_score
        self.loss = MatchedLoss(costs)

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        check_layers(self.layers, 'predictions', student, teacher)

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        return self.weighted_sum(list(self._distances(*self.opinions(seen, taught))))

    def _distances(self, own: QueryOpinion, other: QueryOpinion) -> Iterator[QueryDistance]:
        for layer, taught_by in pairs_of_layers(self.layers, own.logits.shape[1]):
            ours = own.logits[:, layer], own.boxes[:, layer]
            theirs = other.logits[:, taught_by], other.boxes[:, taught_by]
            counts = other.scores[:, taught_by] >= self.min_score
            pairs = self.loss.pairs(ours, theirs, counts, own.sigmoid)
            divisor = mean_over_processes(float(len(pairs[0])), ours[0])
            yield self.loss(ours, theirs, pairs, own.sigmoid, divisor)

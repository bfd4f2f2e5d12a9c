"""What objectives share that compare what detectors of the DETR family say of queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from kddense.exchange import Answer, QueryOpinion
from kddense.losses import QueryDistance
from kddense.losses._checks import check_not_negative

from .base import Objective

TERMS = {'loss_cls': 'classes', 'loss_bbox': 'boxes', 'loss_iou': 'overlaps'}


class QueryObjective(Objective):
    """Compares classes, boxes and their overlaps; each is a loss of its own, summed over the student's decoder layers.

    Args:
        cls_weight: Of classes.
        bbox_weight: Of the L1 distance of boxes.
        iou_weight: Of one minus their generalised IoU.
        weight: See :class:`Objective`: of all three.
        teacher: See :class:`Objective`.
    """

    def __init__(
        self,
        cls_weight: float = 1.0,
        bbox_weight: float = 5.0,
        iou_weight: float = 2.0,
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        self.factors = dict(zip(TERMS, (cls_weight, bbox_weight, iou_weight), strict=True))
        for name, factor in zip(('cls_weight', 'bbox_weight', 'iou_weight'), self.factors.values(), strict=True):
            check_not_negative(name, factor)
        if not any(self.factors.values()):
            raise ValueError('cls_weight, bbox_weight and iou_weight are all 0: leave this objective out')
        self.loss_names = tuple(name for name, factor in self.factors.items() if factor > 0)

    @property
    def compares_classes(self) -> bool:
        return self.factors['loss_cls'] > 0

    def opinions(self, seen: Answer, taught: Answer) -> tuple[QueryOpinion, QueryOpinion]:
        """Return what the student and the teacher say of their own queries."""
        (kind,) = self.kinds
        (own,), (other,) = seen.opinions[kind], taught.opinions[kind]
        return own, other

    def weighted_sum(self, distances: Iterable[QueryDistance]) -> dict[str, Tensor]:
        """Return the losses: sums over decoder layers, each times its factor."""
        sums = [sum(terms[1:], terms[0]) for terms in zip(*distances, strict=True)]
        by_term = dict(zip(QueryDistance._fields, sums, strict=True))
        return {name: self.factors[name] * by_term[TERMS[name]] for name in self.loss_names}

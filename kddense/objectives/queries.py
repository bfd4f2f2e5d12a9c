"""What objectives share that compare what detectors of the DETR family say of queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from torch import Tensor

from kddense.exchange import Answer, QueryOpinion
from kddense.losses import QueryDistance
from kddense.losses._checks import check_not_negative
from kddense.views import ModelView

from .base import Objective

Layers = Literal['each', 'last']
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


def check_layers(layers: Layers, kind: str, student: ModelView, teacher: ModelView) -> None:
    """Raise a ValueError if decoders that are compared layer by layer have different numbers of layers."""
    own, other = (view.probe_opinions(kind)[0].logits.shape[1] for view in (student, teacher))
    if layers == 'each' and own != other:
        raise ValueError(
            f'decoder.num_layers is {own} in the student and {other} in the teacher, which cannot be compared layer by '
            "layer: set layers='last'"
        )


def pairs_of_layers(layers: Layers, count: int) -> list[tuple[int, int]]:
    """Return each of ``count`` decoder layers of the student with the layer that teaches it."""
    return [(layer, layer if layers == 'each' else -1) for layer in range(count)]

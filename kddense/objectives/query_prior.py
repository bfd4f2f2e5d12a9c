"""Chang et al., DETRDistill, ICCV 2023: the teacher's queries and its assignment as a prior."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from kddense.exchange import Answer
from kddense.losses import QueryDistance
from kddense.registry import MODELS
from kddense.views import DETRView, ModelView

from .queries import Layers, QueryObjective, check_layers, pairs_of_layers


@MODELS.register_module()
class QueryPriorObjective(QueryObjective):
    """DETRDistill's query prior: the student's decoder also judges the teacher's queries, and learns the objects that the
    teacher assigns to them.

    They are a group of their own beside the student's queries, which attends to none of those and is gone at test time.
    The losses are those of the student's head, with its factors and divisors, summed over its decoder layers. What is
    assigned is found by the head's own matching, of the teacher's predictions with the ground truth.

    From the released code: the group, the losses, the layer-by-layer form. It makes the teacher's assignment and then does
    not pass it on, so that its losses match the student's predictions anew: ``assigned_by='student'``. The default is the
    paper's.

    Args:
        layers: ``'each'`` assigns layer by layer, ``'last'`` by the teacher's last layer, for models with different numbers
            of layers.
        assigned_by: Whose predictions are matched with the ground truth, ``'teacher'`` or ``'student'``.
        cls_weight: Of classes, beside the factor of the head's own loss.
        bbox_weight: Of the L1 distance of boxes, likewise.
        iou_weight: Of their overlaps, likewise.
        **kwargs: See :class:`QueryObjective`.

    Raises:
        ValueError: If an option is out of its range; at build also if the numbers of layers differ.
    """

    kinds = frozenset({'queries'})

    def __init__(
        self,
        layers: Layers = 'each',
        assigned_by: Literal['teacher', 'student'] = 'teacher',
        cls_weight: float = 1.0,
        bbox_weight: float = 1.0,
        iou_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(cls_weight, bbox_weight, iou_weight, **kwargs)
        self.layers = layers
        self.assigned_by = assigned_by
        self.student: DETRView | None = None

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        if self.assigned_by == 'teacher':
            check_layers(self.layers, 'queries', student, teacher)
        assert isinstance(student, DETRView)
        self.student = student

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        own, other = self.opinions(seen, taught)
        said = own.judge(other.queries)
        by_teacher = self.assigned_by == 'teacher'
        layers = pairs_of_layers(self.layers if by_teacher else 'each', said.logits.shape[1])
        assert self.student is not None
        assert seen.batch is not None
        losses = self.student.task_losses(said, other if by_teacher else said, layers, seen.batch.data_samples)
        return self.weighted_sum(QueryDistance(*layer) for layer in losses)

"""What the teacher's head says of the student's features, compared with what it says of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.connectors import build_connector
from kddense.errors import ConfigError
from kddense.exchange import Answer, DenseOpinion, DenseSample, ViewError, rows_of
from kddense.losses import LDLoss, QualityFocalDivergenceLoss, centerness
from kddense.losses._checks import check_not_negative
from kddense.registry import MODELS
from kddense.taps import tensors_of
from kddense.views import ModelView

from ..base import Objective, mean_over_processes
from .towers import BRANCHES, HEADS, Crossing, head_of, tap_of


@MODELS.register_module()
class CrossKDObjective(Objective):
    """CrossKD: the student's features go through the rest of the teacher's head, and are to give what the teacher gives.

    The student's own predictions learn from the ground truth alone, so that labels and teacher never pull at the same
    output. What a convolution of the student's towers gives, before its activation, is brought to the mean and deviation of
    the teacher's channels; gradients reach what lies before. For RetinaHead, FCOSHead, ATSSHead and GFLHead, the same one on
    both sides, with the same anchors or points, box coder and classes.

    * ``loss_cls``: see :func:`kddense.losses.quality_focal_divergence`; a sum over all places that the student's
      own classification looks at, divided by the number of its positives (of FCOS by the sum of their centerness).
    * ``loss_box``: places weigh as much as the teacher's greatest class score. Of GFL the divergence of distributions,
      averaged over edges and by these weights; of others 1 - GIoU (or -log IoU), divided as ``loss_cls``.
    * ``loss_centerness``, of ATSS and FCOS: binary cross-entropy at the positives, divided by as ``loss_cls``.

    Args:
        layer: Behind which convolution of the teacher's towers, 1 for the first; 0 gives its head the student's pyramid. By
            default behind three quarters of them, of FCOS behind the half: the authors' 3 and 2 of 4.
        student_layer: The same in the student's; ``layer`` by default. Channels that differ are connected.
        classes: Weight of ``loss_cls``; the authors' is 1, and 0.4 of FCOS.
        boxes: Weight of ``loss_box``; the authors' is 1 of RetinaNet and ATSS, 0.75 of FCOS, 4 of GFL.
        centerness: Weight of ``loss_centerness``, where the head has one; the authors' is 1 of ATSS, 0 of FCOS.
        overlap: ``'giou'``, or ``'iou'`` for -log IoU, the authors' for FCOS.
        beta: Of ``loss_cls``, at least 1.
        weight: Scales all of it. See :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    kinds = frozenset({'dense'})
    of_labelled = True

    def __init__(
        self,
        layer: int | None = None,
        student_layer: int | None = None,
        classes: float = 1.0,
        boxes: float = 1.0,
        centerness: float = 1.0,
        overlap: Literal['giou', 'iou'] = 'giou',
        beta: float = 1.0,
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        self.weights = dict(classes=classes, boxes=boxes, centerness=centerness)
        for name, value in self.weights.items():
            check_not_negative(name, value)
        self.layer = layer
        self.student_layer = student_layer
        self.overlap = overlap
        self.class_loss = QualityFocalDivergenceLoss(beta)
        self.edge_loss = LDLoss(temperature=1.0)
        self.connectors = nn.ModuleDict()
        self.crossing: Crossing | None = None
        self._coder: Any = None

    @property
    def is_off(self) -> bool:
        return super().is_off or not (self.weights['classes'] or self.weights['boxes'])

    @property
    def loss_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return ('loss_cls', 'loss_box', *(('loss_centerness',) if self.compares_centerness else ()))

    @property
    def compares_centerness(self) -> bool:
        """Whether the teacher's head has a centerness, and it counts."""
        has_one = self.crossing is not None and self.crossing.predictors.centerness is not None
        return has_one and self.weights['centerness'] > 0

    @property
    def student_taps(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset(self._taps(self.student_layer))

    @property
    def teacher_taps(self) -> frozenset[str]:  # type: ignore[override]
        whole = {'bbox_head'} if self.compares_centerness else set()
        return frozenset({*self._taps(self.layer), *whole})

    def _taps(self, layer: int | None) -> list[str]:
        return [] if layer is None else [tap_of(branch, layer) for branch in BRANCHES]

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        own, other = head_of(student), head_of(teacher)
        if own != other:
            raise ViewError(f'CrossKD needs the same head on both sides, the student has {own} and the teacher {other}')
        head = teacher.model.bbox_head
        depth = head.stacked_convs
        self.layer = _layer('layer', int(depth * HEADS[other].share) if self.layer is None else self.layer, depth)
        wanted = self.layer if self.student_layer is None else self.student_layer
        self.student_layer = _layer('student_layer', wanted, student.model.bbox_head.stacked_convs)
        self.crossing = Crossing(other, head, self.layer, teacher.class_map)
        self._coder = student.model.bbox_head.bbox_coder
        super().bind(student, teacher)
        for branch in BRANCHES:
            ours, theirs = (
                view.probe([tap])[tap][0]
                for view, tap in (
                    (student, tap_of(branch, self.student_layer)),
                    (teacher, tap_of(branch, self.layer)),
                )
            )
            layer = build_connector({}, ours.shape, theirs.shape) if ours.shape[1] != theirs.shape[1] else None
            if layer is not None:
                self.connectors[branch] = layer

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        assert self.crossing is not None
        (sample,), (other,) = seen.samples['dense'], taught.opinions['dense']
        features = [self._levels(branch, seen, taught) for branch in BRANCHES]
        scores, boxes = [], []
        for level, (classes, edges) in enumerate(zip(*features, strict=True)):
            scores.append(self.crossing.scores(taught, classes))
            boxes.append(self.crossing.boxes(taught, edges, level, sample.strides[level]))
        cross = DenseOpinion(sample, tuple(scores), tuple(boxes), other.reg_max)
        average = self._average(sample)
        losses = {
            'loss_cls': self.weights['classes'] * self.class_loss(cross.logits, other.logits, average),
            'loss_box': self.weights['boxes'] * self._box_loss(cross, other, average),
        }
        if self.compares_centerness:
            theirs = taught.taps['bbox_head'][2]
            ours = [self.crossing.centerness(taught, *pair) for pair in zip(*features, strict=True)]
            losses['loss_centerness'] = self.weights['centerness'] * _centerness_loss(ours, theirs, sample) / average
        return losses

    def _levels(self, branch: str, seen: Answer, taught: Answer) -> list[Tensor]:
        """Return what the teacher's last layers of a branch read, level by level."""
        assert self.crossing is not None
        assert self.layer is not None
        assert self.student_layer is not None
        ours = tensors_of(seen.taps[tap_of(branch, self.student_layer)])
        theirs = tensors_of(taught.taps[tap_of(branch, self.layer)])
        if branch in self.connectors:
            ours = map(self.connectors[branch], ours)
        return [self.crossing.through(taught, branch, *pair) for pair in zip(ours, theirs, strict=True)]

    def _average(self, sample: DenseSample) -> Tensor:
        """Return what the head's own box loss is divided by, or about that: positives, of FCOS by their centerness."""
        assert self.crossing is not None
        counted = centerness(sample.targets).sum() if self.crossing.in_distances else sample.num_positive
        return mean_over_processes(counted, sample.priors).clamp(min=1.0)

    def _box_loss(self, cross: DenseOpinion, other: DenseOpinion, average: Tensor) -> Tensor:
        from mmdet.models.losses.iou_loss import giou_loss, iou_loss  # here, because only detectors need mmdet

        sample = cross.sample
        weight = other.logits.sigmoid().amax(dim=1)
        if cross.reg_max is not None:
            ours, theirs = (side.distributions_at(sample.index) for side in (cross, other))
            return self.edge_loss(ours, theirs, weight, mean_over_processes(weight.sum(), weight).clamp(min=1))
        ours, theirs = (self._corners(sample, side.deltas_at(sample.index)) for side in (cross, other))
        if len(weight) == 0:
            return ours.sum()
        loss = giou_loss if self.overlap == 'giou' else iou_loss
        return loss(ours, theirs, weight=weight, reduction='mean', avg_factor=average)

    def _corners(self, sample: DenseSample, boxes: Tensor) -> Tensor:
        """Return boxes as corners; of distances around their point, which no overlap depends on."""
        assert self.crossing is not None
        if self.crossing.in_distances:
            return torch.cat([-boxes[:, :2], boxes[:, 2:]], dim=1)
        return self._coder.decode(sample.priors[sample.index % len(sample.priors)], boxes)


def _layer(key: str, layer: int, depth: int) -> int:
    if not 0 <= layer <= depth:
        raise ConfigError(f'must be one of 0..{depth}, as the towers have {depth} convolutions, got {layer}', key)
    return layer


def _centerness_loss(ours: Sequence[Tensor], theirs: Sequence[Tensor], sample: DenseSample) -> Tensor:
    places = sample.index[sample.positive]
    own, other = (rows_of(levels, 1, sample.level_sizes)[places, 0].float() for levels in (ours, theirs))
    return F.binary_cross_entropy_with_logits(own, other.detach().sigmoid(), reduction='sum')

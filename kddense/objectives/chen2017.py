"""Chen et al., Learning Efficient Object Detection Models with Knowledge Distillation, NeurIPS 2017.

For two-stage detectors: weighted soft targets and teacher-bounded regression in both heads, and a hint with an adaptation
layer. The whole method is ``L = L_RPN + L_RCN + γ L_Hint`` with, in each head,
``L_cls = μ L_hard + (1 - μ) L_soft`` and ``L_reg = L_smooth-L1 + ν L_b``. The same for the one head of a one-stage detector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kddense.exchange import Answer, DenseSample
from kddense.losses import BoundedRegressionLoss, BoxImitationLoss, WeightedSoftTargetLoss
from kddense.registry import MODELS
from kddense.views import ModelView, TwoStageView

from ._averages import check_average, count_of
from .base import Objective
from .feature import FeatureObjective


def names_by_stage(student: ModelView, kind: str, names: list[str]) -> tuple[str, ...]:
    """Return the names of losses of box heads, as mmdet calls those of a cascade: one of each for every stage."""
    stages = len(student.box_heads) if kind == 'roi' and isinstance(student, TwoStageView) else 1
    if stages == 1:
        return tuple(names)
    return tuple(f's{stage}.{name}' for stage in range(stages) for name in names)


class ChenBoxObjective(Objective):
    """What the paper does in either head (sections 3.2 and 3.3): soft classes, bounded boxes.

    Both networks judge the student's own samples. As the detector's own losses, both terms are averaged over all sampled
    boxes; the box term is 0 for negatives, which have no regression target.

    Args:
        mu: The paper's μ: the student's own classification loss is scaled by it, the soft one by 1 - μ. 1 leaves
            classification alone. The paper does not print its value.
        nu: The paper's ν, the weight of the box term. 0 leaves regression alone.
        background_weight: Weight of the background column in the soft targets; the paper's 1.5. 1 is the plain form.
        temperature: Softens both networks' classes; 1 worked best in the paper.
        margin: By how much, in squared deltas, the student must beat the teacher to be left alone. Not printed in the
            paper.
        standardize: Logit standardisation (Sun et al. 2024) of the soft classes, of RoI heads only; see
            :class:`kddense.losses.WeightedSoftTargetLoss`.
        bounded: ``False`` imitates the teacher's boxes instead of only being bounded by them: the ablation 'L2'.
        weight: Scales all of it, the change of the student's own loss by μ too, which stops at 1. See
            :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    hard_loss = ''
    classes = 'softmax'

    def __init__(
        self,
        mu: float = 0.5,
        nu: float = 0.5,
        background_weight: float = 1.5,
        temperature: float = 1.0,
        margin: float = 0.0,
        bounded: bool = True,
        standardize: bool = False,
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        if standardize and self.kind == 'rpn':
            raise ValueError(
                'standardize=True would leave only the sign of the two logits of an anchor: for RoI heads only'
            )
        if not 0 <= mu <= 1:
            raise ValueError(f'mu must lie in [0, 1], got {mu}')
        if not 0 <= nu < float('inf'):
            raise ValueError(f'nu must be a number that is at least 0, got {nu}')
        self.mu = mu
        self.nu = nu
        self.soft_loss = WeightedSoftTargetLoss(background_weight, temperature, self.classes, standardize)
        self.box_loss = BoundedRegressionLoss(margin=margin) if bounded else BoxImitationLoss()

    @property
    def kind(self) -> str:
        """The head that it distils."""
        return next(iter(self.kinds))

    @property
    def is_off(self) -> bool:
        return super().is_off or (self.mu == 1 and self.nu == 0)

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        names = [name for name, on in (('loss_cls', self.mu < 1), ('loss_bbox', self.nu > 0)) if on]
        self.loss_names = names_by_stage(student, self.kind, names)

    def task_scales(self) -> dict[str, float]:
        return {self.hard_loss: self.mu}

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        samples, ours, theirs = (side[self.kind] for side in (seen.samples, seen.opinions, taught.opinions))
        losses: dict[str, Tensor] = {}
        for stage, (sample, own, other) in enumerate(zip(samples, ours, theirs, strict=True)):
            prefix = f's{stage}.' if len(samples) > 1 else ''
            weight = getattr(sample, 'weight', 1.0)
            rows, boxes = self.counts(sample)
            if self.mu < 1:
                soft = self.soft_loss(own.logits, other.logits, num_sampled=rows)
                losses[f'{prefix}loss_cls'] = weight * (1 - self.mu) * soft
            if self.nu > 0:
                box = self.box_loss(own.deltas, other.deltas, sample.targets, boxes)
                losses[f'{prefix}loss_bbox'] = weight * self.nu * box
        return losses

    def counts(self, sample: Any) -> tuple[float, float]:
        """Return what the soft term and the box term, both sums over a sample, are divided by."""
        return sample.num_sampled, sample.num_sampled


@MODELS.register_module()
class ChenRPNObjective(ChenBoxObjective):
    """Distils the RPN at the student's sampled anchors; see :class:`ChenBoxObjective` for the arguments.

    Both RPNs must have the same anchors and box coder; sigmoid and softmax RPNs may be mixed.
    """

    kinds = frozenset({'rpn'})
    hard_loss = r'loss_rpn_cls'


@MODELS.register_module()
class ChenRoIObjective(ChenBoxObjective):
    """Distils the RoI head at the student's sampled RoIs, each stage of a cascade with its own weight.

    See :class:`ChenBoxObjective` for the arguments. The teacher pools the same RoIs from its own features, so its strides
    and levels are free; classes, box coders and the number of stages must agree.
    """

    kinds = frozenset({'roi'})
    hard_loss = r'(s\d+\.)?loss_cls'


@MODELS.register_module()
class ChenDenseObjective(ChenBoxObjective):
    """Distils the dense head of a one-stage detector, at the places that its own classification loss looks at.

    The paper knows two-stage detectors only. Where each class is decided on its own, by a sigmoid, the background is what
    is left of each class: its weight belongs to the share ``1 - p`` of the teacher, see
    :func:`kddense.losses.weighted_soft_binary_cross_entropy`. Boxes are compared as deltas (RetinaNet, ATSS) or as
    distances in strides (FCOS, GFL, RTMDet), and their term is averaged over the positives, as the head's own.

    Both heads must have the same anchors or points, box coder and classes.

    Args:
        average: What the soft term is divided by: ``'rows'``, which leaves it about as large as the head's own focal loss
            with which μ mixes it, or ``'positives'``, some hundred times less; see :class:`DenseHintonObjective`.
        **kwargs: See :class:`ChenBoxObjective`.
    """

    kinds = frozenset({'dense'})
    hard_loss = r'loss_cls'
    classes = 'sigmoid'

    def __init__(self, average: str = 'rows', **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_average(average)
        self.average = average
        self.of_labelled = average == 'positives'

    def counts(self, sample: DenseSample) -> tuple[float, float]:
        return count_of(sample, self.average), count_of(sample)


@MODELS.register_module()
class HintObjective(FeatureObjective):
    """Chen et al.'s hint (section 3.4): the feature that RPN and RoI head share, after an adaptation layer.

    The layer is learned even where the channels agree: it lets the student match the teacher's scale and distribution.

    Args:
        tap: The shared feature by default: the neck's output, or the backbone's where there is no neck.
        adapt: ``False`` compares the features as they are (the ablation 'Hints'; channels must agree).
        norm: ``'l2'`` or ``'l1'``.
        connector: The adaptation layer; a 1x1 convolution between maps, a linear layer between vectors by default.
        weight: The paper's γ.
        **kwargs: See :class:`FeatureObjective`.
    """

    def __init__(
        self,
        tap: str | None = None,
        adapt: bool = True,
        norm: str = 'l2',
        connector: Mapping[str, Any] | None = None,
        weight: float | str | Mapping[str, Any] = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            tap=tap,
            loss=dict(type='kddense.HintLoss', norm=norm),
            connector=dict(connector or {}) if adapt else None,
            weight=weight,
            **kwargs,
        )

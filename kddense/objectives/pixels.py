"""Objectives that compare what two segmentors say of every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kddense.connectors import build_connector, match_size
from kddense.losses import CWDLoss
from kddense.registry import MODELS
from kddense.views import Answer, ModelView, PixelOpinion, PixelSample

from .base import Objective

SIDES = ('student', 'teacher')


class PixelObjective(Objective):
    """Compares the heads of two segmentors pair by pair; the loss is averaged over the pairs (one, but for auxiliary heads).

    Args:
        on: ``'decode_head'`` or ``'auxiliary_head'``.
        resize: Where output strides differ, which side's maps are resized to the other's size, ``'student'`` or
            ``'teacher'``.
        weight: See :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    def __init__(
        self,
        on: str = 'decode_head',
        resize: str = 'student',
        weight: float | Mapping[str, Any] = 1.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        heads = {'decode_head': 'pixels', 'auxiliary_head': 'auxiliary'}
        if on not in heads:
            raise ValueError(f"on must be 'decode_head' or 'auxiliary_head', got {on!r}")
        if resize not in SIDES:
            raise ValueError(f"resize must be 'student' or 'teacher', got {resize!r}")
        self.resize = resize
        self.kind = heads[on]
        self.kinds = frozenset({self.kind})

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        ours, theirs = student.probe_opinions(self.kind), teacher.probe_opinions(self.kind)
        if len(ours) != len(theirs):
            raise ValueError(
                f'the student has {len(ours)} auxiliary heads and the teacher {len(theirs)}: there must be as many'
            )
        for own, other in zip(ours, theirs, strict=True):
            self.bind_pair(student, own, other)

    def bind_pair(self, student: ModelView, own: PixelOpinion, other: PixelOpinion) -> None:
        """Check one pair of heads on a tiny batch, and build what stands between them."""
        if self.compares_classes and own.logits.shape[1] != other.logits.shape[1]:
            raise ValueError(
                f'the student has {own.logits.shape[1]} classes and the teacher {other.logits.shape[1]}; choose and order '
                "the teacher's with teacher.class_map, one name or index for each class of the student"
            )

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        triples = zip(seen.samples[self.kind], seen.opinions[self.kind], taught.opinions[self.kind], strict=True)
        losses = [self.compare(index, *triple) for index, triple in enumerate(triples)]
        return {'loss': sum(losses[1:], losses[0]) / len(losses)}

    def compare(self, index: int, sample: PixelSample, own: PixelOpinion, other: PixelOpinion) -> Tensor:
        """Return the loss of one pair of heads.

        Args:
            index: Which pair.
            sample: The batch.
            own: What the student's head says, with gradients.
            other: What the teacher's says.
        """
        raise NotImplementedError


@MODELS.register_module()
class CWDObjective(PixelObjective):
    """Channel-wise distillation (Shu et al., ICCV 2021): where in the image each channel looks.

    Args:
        compare: ``'logits'``, whose channels are the classes, or ``'feature'``, what the classifier reads.
        temperature: The paper's T.
        connector: For features: ``'auto'`` connects them where the channels differ, a dict always, ``None`` never.
        weight: The paper's α: 3 for logits; for features the paper uses 50.
        **kwargs: See :class:`PixelObjective`.
    """

    def __init__(
        self,
        compare: str = 'logits',
        temperature: float = 4.0,
        connector: str | Mapping[str, Any] | None = 'auto',
        weight: float | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if compare not in ('logits', 'feature'):
            raise ValueError(f"compare must be 'logits' or 'feature', got {compare!r}")
        if weight is None:
            weight = 3.0 if compare == 'logits' else 50.0
        super().__init__(weight=weight, **kwargs)
        self.what = compare
        self.loss = CWDLoss(temperature=temperature)
        self.connector = connector
        self.connectors = nn.ModuleList()

    @property
    def compares_classes(self) -> bool:
        return self.what == 'logits'

    def bind_pair(self, student: ModelView, own: PixelOpinion, other: PixelOpinion) -> None:
        super().bind_pair(student, own, other)
        same_channels = self.what == 'logits'
        self.connectors.append(nn.Identity() if same_channels else self._connect(own.feature, other.feature))

    def _connect(self, own: Tensor, other: Tensor) -> nn.Module:
        layer: Any = self.connector
        if layer == 'auto':
            layer = {} if own.shape[1] != other.shape[1] else None
        return build_connector(layer, own.shape, other.shape) or nn.Identity()

    def compare(self, index: int, sample: PixelSample, own: PixelOpinion, other: PixelOpinion) -> Tensor:
        student = self.connectors[index](getattr(own, self.what))
        return self.loss(*match_size(student, getattr(other, self.what), self.resize))

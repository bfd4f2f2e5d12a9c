"""Objectives that compare maps: what two segmentors say of every pixel, or two dense heads of every place of a pyramid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kddense.connectors import build_connector, match_size
from kddense.losses import CWDLoss
from kddense.registry import MODELS
from kddense.views import Answer, ModelView, PixelOpinion, PixelSample

from .base import Objective

SIDES = ('student', 'teacher')
KINDS = {'decode_head': 'pixels', 'auxiliary_head': 'auxiliary', 'bbox_head': 'scores'}


class PixelObjective(Objective):
    """Compares the maps of two models pair by pair; the loss is averaged over the pairs.

    A decode head makes one pair, auxiliary heads one each. The dense head of a one-stage detector makes one for each level
    of its pyramid: the score map, and for a feature the level itself.

    Args:
        on: ``'decode_head'``, ``'auxiliary_head'``, or ``'bbox_head'`` of a one-stage detector.
        levels: Which pairs to compare, such as ``[0]`` for the finest level; all by default.
        resize: Where output strides differ, which side's maps are resized to the other's size, ``'student'`` or
            ``'teacher'``.
        weight: See :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    def __init__(
        self,
        on: str = 'decode_head',
        levels: Sequence[int] | None = None,
        resize: str = 'student',
        weight: float | Mapping[str, Any] = 1.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        if on not in KINDS:
            raise ValueError(f"on must be 'decode_head', 'auxiliary_head' or 'bbox_head', got {on!r}")
        if resize not in SIDES:
            raise ValueError(f"resize must be 'student' or 'teacher', got {resize!r}")
        self.resize = resize
        self.levels = levels
        self.kind = KINDS[on]
        self.kinds = frozenset({self.kind})

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        ours, theirs = student.probe_opinions(self.kind), teacher.probe_opinions(self.kind)
        if len(ours) != len(theirs):
            raise ValueError(
                f'the student has {len(ours)} auxiliary heads and the teacher {len(theirs)}: there must be as many'
            )
        for own, other in zip(self._chosen(ours), self._chosen(theirs), strict=True):
            self.bind_pair(student, own, other)

    def _chosen(self, pairs: Sequence[Any]) -> Sequence[Any]:
        if self.levels is None:
            return pairs
        if not self.levels or not all(-len(pairs) <= level < len(pairs) for level in self.levels):
            raise ValueError(f'levels must name some of 0..{len(pairs) - 1}, got {list(self.levels)}')
        return [pairs[level] for level in self.levels]

    def bind_pair(self, student: ModelView, own: PixelOpinion, other: PixelOpinion) -> None:
        """Check one pair of heads on a tiny batch, and build what stands between them."""
        if self.compares_classes and own.logits.shape[1] != other.logits.shape[1]:
            raise ValueError(
                f'the student has {own.logits.shape[1]} classes and the teacher {other.logits.shape[1]}; choose and order '
                "the teacher's with teacher.class_map, one name or index for each class of the student"
            )

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        losses = [self.compare(index, *triple) for index, triple in enumerate(self.triples(seen, taught))]
        return {'loss': sum(losses[1:], losses[0]) / len(losses)}

    def triples(self, seen: Answer, taught: Answer) -> Iterator[tuple[PixelSample, PixelOpinion, PixelOpinion]]:
        """Yield the batch and both opinions, pair by pair."""
        sides = (seen.samples[self.kind], seen.opinions[self.kind], taught.opinions[self.kind])
        yield from zip(*map(self._chosen, sides), strict=True)

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

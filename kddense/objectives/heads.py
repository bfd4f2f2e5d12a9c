"""What heads say at every position of a map: segmentors and semantic heads of pixels, dense heads of places of a pyramid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from kddense.exchange import Answer, MapOpinion, MapSample
from kddense.views import ModelView

from .maps import MapObjective

KINDS = {'decode_head': 'pixels', 'auxiliary_head': 'auxiliary', 'semantic_head': 'stuff', 'bbox_head': 'scores'}


class HeadObjective(MapObjective):
    """Compares what the heads of two models say at every position; the loss is averaged over the pairs.

    A decode head makes one pair, auxiliary heads one each. The dense head of a one-stage detector makes one for each level
    of its pyramid: the score map, and for a feature the level itself.

    Args:
        on: ``'decode_head'`` or ``'auxiliary_head'`` of a segmentor, ``'semantic_head'`` of Panoptic FPN, or ``'bbox_head'``
            of a one-stage detector.
        **kwargs: See :class:`MapObjective`.

    Attributes:
        what: Which map of an opinion is compared, ``'logits'`` or ``'feature'``.
    """

    what = 'logits'

    def __init__(self, on: str = 'decode_head', **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if on not in KINDS:
            raise ValueError(f'on must be one of {", ".join(map(repr, KINDS))}, got {on!r}')
        self.kind = KINDS[on]
        self.kinds = frozenset({self.kind})

    def probed(self, view: ModelView, side: str) -> list[MapOpinion]:
        return view.probe_opinions(self.kind)

    def items(self, answer: Answer, side: str) -> list[MapOpinion]:
        return answer.opinions[self.kind]

    def map_of(self, item: MapOpinion) -> Tensor:
        return getattr(item, self.what)

    def check_pairs(self, ours: Any, theirs: Any) -> None:
        if len(ours) != len(theirs):
            raise ValueError(
                f'the student has {len(ours)} auxiliary heads and the teacher {len(theirs)}: there must be as many'
            )

    def bind_pair(self, own: MapOpinion, other: MapOpinion) -> None:
        """Check one pair of heads on a tiny batch; what they say is compared as it is."""
        if self.compares_classes and own.logits.shape[1] != other.logits.shape[1]:
            raise ValueError(
                f'the student has {own.logits.shape[1]} classes and the teacher {other.logits.shape[1]}; choose and order '
                "the teacher's with teacher.class_map, one name or index for each class of the student"
            )

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        losses = [self.judge(index, *triple) for index, triple in enumerate(self.triples(seen, taught))]
        return {'loss': sum(losses[1:], losses[0]) / len(losses)}

    def triples(self, seen: Answer, taught: Answer) -> Iterator[tuple[MapSample, MapOpinion, MapOpinion]]:
        """Yield the positions and both opinions on them, pair by pair."""
        yield from zip(
            self.chosen(seen.samples[self.kind], 'student'),
            self.chosen(self.items(seen, 'student'), 'student'),
            self.chosen(self.items(taught, 'teacher'), 'teacher'),
            strict=True,
        )

    def judge(self, index: int, sample: MapSample, own: MapOpinion, other: MapOpinion) -> Tensor:
        """Return the loss of one pair of heads.

        Args:
            index: Which pair.
            sample: The positions.
            own: What the student's head says, with gradients.
            other: What the teacher's says.
        """
        raise NotImplementedError

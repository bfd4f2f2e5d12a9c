"""Pair-wise distillation (section 3.2.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kddense.connectors import match_size
from kddense.exchange import MapOpinion, MapSample, Shown
from kddense.losses import PairWiseLoss
from kddense.registry import MODELS

from ..heads import HeadObjective
from ._common import check_mode


@MODELS.register_module()
class PairWiseObjective(HeadObjective):
    """Pair-wise distillation (section 3.2.2): how alike the features of any two places are, before the classifier.

    Needs no connector, and no common classes. On dense heads, of the levels of the pyramid: where a level has no room for
    one place of ``granularity``, or has fewer places than ``connections``, it takes what it has.

    Args:
        mode: ``'paper'``: places are averages of β pixels. ``'code'``: the greatest value of each half of the map
            (``pool='max', pool_scale=0.5``), and the gradient leaves the norms alone (``detach_norm=True``). The
            code's own script weights it with 0.5.
        granularity: The paper's β, height and width in pixels of the map; ``(2, 2)`` worked best there.
        pool: ``'average'`` or ``'max'``; by default that of ``mode``.
        pool_scale: Height and width of a place relative to the map, instead of ``granularity``.
        connections: The paper's α, the number of nearest places that each one is compared with; all of them by default.
        detach_norm: Whether the gradient leaves the norms alone; by default as ``mode`` says.
        max_nodes: With more places than so many, both lengths of ``granularity`` are multiplied by the least whole number
            that leaves no more, for each map on its own.
        weight: The paper's λ1.
        **kwargs: See :class:`HeadObjective`.
    """

    def __init__(
        self,
        mode: str = 'paper',
        granularity: tuple[int, int] = (2, 2),
        pool: str | None = None,
        pool_scale: float | None = None,
        connections: int | None = None,
        detach_norm: bool | None = None,
        max_nodes: int | None = None,
        weight: float | str | Mapping[str, Any] = 10.0,
        **kwargs: Any,
    ) -> None:
        check_mode(mode)
        super().__init__(weight=weight, **kwargs)
        as_code = mode == 'code'
        if max_nodes is not None and max_nodes < 1:
            raise ValueError(f'max_nodes must be at least 1, got {max_nodes}')
        if max_nodes is not None and (as_code or pool_scale is not None):
            raise ValueError('max_nodes and pool_scale both say how large a place is: give one of them')
        self.max_nodes = max_nodes
        self.loss = PairWiseLoss(
            granularity=(granularity[0], granularity[1]),
            pool=pool or ('max' if as_code else 'average'),
            pool_scale=0.5 if as_code and pool_scale is None else pool_scale,
            connections=connections,
            detach_norm=as_code if detach_norm is None else detach_norm,
        )

    def judge(self, index: int, sample: MapSample, own: MapOpinion, other: MapOpinion) -> Tensor:
        student, teacher = match_size(own.feature, other.feature, self.resize)
        height, width = student.shape[-2:]
        granularity = self._granularity(height, width)
        connections = self.loss.connections
        if self.kind == 'scores' and connections is not None:
            connections = min(connections, _nodes(height, width, granularity))
        return self.loss(student, teacher, granularity, connections)

    def shown(self) -> Shown:
        return Shown(pairs=self.kind)

    def _granularity(self, height: int, width: int) -> tuple[int, int]:
        high, wide = self.loss.granularity
        times = 1
        while self.max_nodes is not None and _nodes(height, width, (times * high, times * wide)) > self.max_nodes:
            times += 1
        if self.kind != 'scores' and times == 1:
            return high, wide
        return min(times * high, height), min(times * wide, width)


def _nodes(height: int, width: int, granularity: tuple[int, int]) -> int:
    """Return how many places a map has; one at its edge may be smaller."""
    return math.ceil(height / granularity[0]) * math.ceil(width / granularity[1])

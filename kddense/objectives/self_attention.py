"""Self attention distillation (Hou et al., ICCV 2019): deep layers of a network teach its shallow ones."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from kddense.exchange import Answer
from kddense.losses._vectors import unit_vectors
from kddense.losses.at import attention_map
from kddense.registry import MODELS

from .base import Objective


@MODELS.register_module()
class SelfAttentionObjective(Objective):
    """Each stage of a backbone learns to look where the next one looks; no teacher is asked.

    The mean over pairs and images of ``‖Q_m - Q_{m+1}‖²``, where Q, a unit vector, is the attention map of a stage: the
    mean of squares over its channels, the deeper one resized to the shallower. No gradient flows into the deeper stage of
    a pair: the last one teaches alone.

    Args:
        tap: A place in the student with several maps, the shallowest first.
        levels: Which of them; each learns from the next one named. All by default.
        weight: See :class:`Objective`. The paper's 0.1, which it gives once the network is half trained:
            ``dict(value=0.1, start=0.5)``.

    Raises:
        ValueError: If there are fewer than two maps.
    """

    def __init__(
        self,
        tap: str = 'backbone',
        levels: Sequence[int] | None = None,
        weight: float | str | Mapping[str, Any] = 0.1,
    ) -> None:
        super().__init__(weight)
        if levels is not None and (len(levels) < 2 or len(set(levels)) < len(levels)):
            raise ValueError(f'levels must name at least two different levels, got {list(levels)}')
        self.tap = tap
        self.levels = levels
        self.student_taps = frozenset({tap})

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        maps = seen.taps[self.tap]
        if not isinstance(maps, (list, tuple)) or len(maps) < 2:
            raise ValueError(f"tap '{self.tap}' must show at least two maps, which teach each other")
        if self.levels is not None and max(self.levels) >= len(maps):
            raise ValueError(f'levels must name some of 0..{len(maps) - 1}, got {list(self.levels)}')
        chosen = list(maps) if self.levels is None else [maps[level] for level in self.levels]
        losses = [_distance(*pair) for pair in itertools.pairwise(chosen)]
        return {'loss': sum(losses[1:], losses[0]) / len(losses)}


def _distance(shallow: Tensor, deep: Tensor) -> Tensor:
    target = deep.detach().float().square().mean(dim=1, keepdim=True)
    target = F.interpolate(target, size=shallow.shape[-2:], mode='bilinear', align_corners=False)
    return (attention_map(shallow) - unit_vectors(target.flatten(1))).square().sum(dim=1).mean()

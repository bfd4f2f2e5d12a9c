"""Maps with positions: what heads say of every pixel, of every place of a score map, of every level of a pyramid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class PerImage:
    """What dataclasses share whose tensors all have one entry for each image of a batch."""

    def cut(self, images: int) -> list[Any]:
        """Return those of the single images."""
        return [
            replace(self, **{name: value[row : row + 1] for name, value in _tensors(self).items()})  # type: ignore[type-var]
            for row in range(images)
        ]

    @classmethod
    def join(cls, items: Sequence[Any]) -> Any:
        """Put those of single images together."""
        return replace(
            items[0], **{name: torch.cat([getattr(one, name) for one in items]) for name in _tensors(items[0])}
        )


def _tensors(item: Any) -> dict[str, Tensor]:
    values = {one.name: getattr(item, one.name) for one in fields(item)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class MapSample(PerImage):
    """The positions of a batch.

    Attributes:
        images: The student's inputs, normalised and padded as it sees them, shape ``(N, C, H, W)``.
        valid: Which pixels are of the image and have a label, boolean, shape ``(N, H, W)``. Of an unlabelled image, all
            that are no padding.
    """

    images: Tensor
    valid: Tensor

    def valid_at(self, size: Sequence[int]) -> Tensor:
        """Return which cells of a map of ``size`` are valid, by the pixel at the middle of each, ``(N, h, w)``."""
        return F.interpolate(self.valid[:, None].float(), tuple(size), mode='nearest-exact')[:, 0] > 0


@dataclass(frozen=True)
class MapOpinion(PerImage):
    """What one head says at every position of a map.

    Attributes:
        logits: Class scores before they are resized to the image, shape ``(N, K, h, w)``; of a dense head those of one
            level, ``(N, A * K, h, w)``.
        feature: What the classifier reads, before its dropout, shape ``(N, C, h, w)``; of a dense head the level itself.
    """

    logits: Tensor
    feature: Tensor


@dataclass(frozen=True)
class DepthSample(MapSample):
    """The positions of a batch and their true depth.

    Attributes:
        depth: In metres, shape ``(N, H, W)``; 0 where it is not known or out of the student's range.
    """

    depth: Tensor

    def depth_at(self, size: Sequence[int]) -> Tensor:
        """Return the true depth for a map of ``size``, of the pixel at the middle of each cell, ``(N, 1, h, w)``."""
        return F.interpolate(self.depth[:, None], tuple(size), mode='nearest-exact')


@dataclass(frozen=True)
class DepthOpinion(MapOpinion):
    """What one head says of every pixel; ``logits`` are its decoder's, one channel or one for each bin.

    Attributes:
        head: The :class:`kddense.DepthHead` that said it.
    """

    head: Any

    @property
    def depth(self) -> Tensor:
        """Depth in metres, shape ``(N, 1, h, w)``, float32."""
        return self.head.to_depth(self.logits)

    @property
    def position(self) -> Tensor:
        """Depth on a logarithmic scale, 0 at the head's least depth and 1 at its greatest, ``(N, 1, h, w)``."""
        low, high = math.log(self.head.min_depth), math.log(self.head.max_depth)
        return (self.depth.log() - low) / (high - low)

"""What all exported detectors have in common: levels of scored boxes, and non-maximum suppression behind them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kddense.views import owner_of

from .suppression import Suppression

INSTEAD = 'pass --outputs features for the maps of the neck'


class Detections(NamedTuple):
    """What was found in images; rows that hold nothing have the label -1, the score 0 and zeros for a box.

    Attributes:
        boxes: Corners ``x1, y1, x2, y2`` in pixels of the input, ``(N, K, 4)``.
        scores: From 0 to 1, falling, ``(N, K)``.
        labels: Classes, int64 ``(N, K)``.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Level:
    """The boxes of one level of a pyramid, all of them.

    Attributes:
        boxes: Corners in pixels, ``(N, P, 1, 4)``; ``(N, P, C, 4)`` where each class has a box of its own.
        scores: From 0 to 1, ``(N, P, C)``; by them boxes are chosen.
        factors: What scores are multiplied by once boxes are chosen, ``(N, P)``, if anything.
    """

    boxes: Tensor
    scores: Tensor
    factors: Tensor | None = None


class DetectorNetwork(nn.Module):
    """A detector as a function of normalised images.

    Args:
        detector: A detector of mmdet that it fits, in eval mode.
        suppressed: Whether its last non-maximum suppression belongs to it.

    Attributes:
        keeps_order: Whether rounding never changes which row a box is in.

    Raises:
        RuntimeError: If a part of it is one that the family does not know.
    """

    keeps_order = True

    def __init__(self, detector: Any, suppressed: bool = True) -> None:
        super().__init__()
        self.detector = detector
        self.check()
        self.suppression = Suppression.of(*self.settings) if suppressed else None

    @classmethod
    @abstractmethod
    def fits(cls, detector: Any) -> bool:
        """Tell whether a model belongs to the family."""

    @abstractmethod
    def levels(self, images: Tensor, sizes: Tensor) -> list[Level]:
        """Return the boxes before the last non-maximum suppression.

        Args:
            images: Normalised, ``(N, 3, H, W)``.
            sizes: Heights and widths of the images without their padding, ``(N, 2)``.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise a RuntimeError if a part of the detector is one that the family does not know."""

    @property
    @abstractmethod
    def settings(self) -> tuple[Mapping[str, Any], str]:
        """The ``test_cfg`` of the last non-maximum suppression, and its key."""

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return all boxes and scores, and if they are suppressed, the boxes, scores and labels that are left.

        Args:
            images: Normalised, ``(N, 3, H, W)``.
            sizes: Heights and widths of the images without their padding, ``(N, 2)``; by default nothing is padded.

        Returns:
            Boxes ``(N, P, 4)``, or ``(N, P, C, 4)`` where each class has its own, and scores ``(N, P, C)``; then
            :class:`Detections`.
        """
        levels = self.levels(images, sizes_of(images) if sizes is None else sizes.to(images))
        everything = _everything(levels)
        return everything if self.suppression is None else (*everything, *self.suppression(levels))


def sizes_of(images: Tensor) -> Tensor:
    """Return the heights and widths of a batch, ``(N, 2)``; traced, they stay variables."""
    shape = torch._shape_as_tensor(images)
    return shape[2:].to(images).expand(images.shape[0], 2)


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Move corners outside of images to their borders.

    Args:
        boxes: Corners, ``(N, …, 4)``.
        sizes: Heights and widths, ``(N, 2)``.
    """
    borders = sizes.flip(1).repeat(1, 2).view(-1, *[1] * (boxes.dim() - 2), 4)
    return torch.minimum(boxes.clamp(min=0), borders)


def check_method(part: Any, method: str, known: Sequence[str]) -> None:
    """Raise a RuntimeError if a part of a detector computes something in a way of its own.

    Args:
        part: A head or a coder.
        method: What it computes.
        known: The classes whose way it is that the family follows.
    """
    if owner_of(part, method) not in known:
        raise RuntimeError(f'{type(part).__name__} turns its maps to boxes in a way of its own: {INSTEAD}')


def check_scores(head: Any) -> None:
    """Raise a RuntimeError if the loss of a head decides what scores are made of its logits."""
    loss = getattr(head, 'loss_cls', None)  # SSD has none
    if getattr(loss, 'custom_cls_channels', False) or getattr(loss, 'custom_activation', False):
        raise RuntimeError(f'{type(loss).__name__} as loss_cls cannot be exported, its scores are its own: {INSTEAD}')


def check_type(part: Any, known: Mapping[str, object] | Sequence[str], what: str) -> None:
    """Raise a RuntimeError if a part of a detector is of none of the classes that are known."""
    if type(part).__name__ not in known:
        raise RuntimeError(f'{type(part).__name__} as {what} cannot be exported, {" or ".join(known)} can: {INSTEAD}')


def _everything(levels: Sequence[Level]) -> tuple[Tensor, Tensor]:
    boxes = torch.cat([level.boxes for level in levels], dim=1)
    scores = [level.scores if level.factors is None else level.scores * level.factors[..., None] for level in levels]
    return boxes[:, :, 0] if boxes.shape[2] == 1 else boxes, torch.cat(scores, dim=1)

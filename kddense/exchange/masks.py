"""Masks of instances: the RoIs for which the student's mask head draws some, and what heads draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class MaskSample:
    """The positive RoIs of one of the student's mask heads.

    Attributes:
        rois: Image index and box ``(x1, y1, x2, y2)`` in the student's input, in pixels, shape ``(P, 5)``.
        labels: Their classes, shape ``(P,)``.
        weight: What the student's own loss of this head is multiplied with (Cascade's stage weights).
    """

    rois: Tensor
    labels: Tensor
    weight: float = 1.0

    def rescaled(self, scale: float) -> MaskSample:
        """Return the same RoIs in an image ``scale`` times as large."""
        return replace(self, rois=torch.cat([self.rois[:, :1], self.rois[:, 1:] * scale], dim=1))

    def rows_of(self, image: int) -> Tensor:
        """Return which rows are of an image, boolean, ``(P,)``."""
        return self.rois[:, 0] == image

    def cut(self, images: int) -> list[MaskSample]:
        """Return the samples of the single images."""
        chosen = [self.rows_of(image) for image in range(images)]
        first = torch.zeros_like(self.rois[:, :1])
        rois = torch.cat([first, self.rois[:, 1:]], dim=1)
        return [replace(self, rois=rois[rows], labels=self.labels[rows]) for rows in chosen]

    @classmethod
    def join(cls, samples: Sequence[MaskSample]) -> MaskSample:
        """Put the samples of single images together."""
        rois = [torch.cat([one.rois[:, :1] + number, one.rois[:, 1:]], dim=1) for number, one in enumerate(samples)]
        return replace(samples[0], rois=torch.cat(rois), labels=torch.cat([one.labels for one in samples]))


@dataclass(frozen=True)
class MaskOpinion:
    """The masks that one head draws for a sample.

    Attributes:
        logits: One mask for each RoI, that of its class where the head draws one for each, shape ``(P, h, w)``; a sigmoid
            decides each cell.
        sample: The sample.
    """

    logits: Tensor
    sample: MaskSample

    def cut(self, images: int) -> list[MaskOpinion]:
        """Return the opinions on the single images."""
        samples = self.sample.cut(images)
        return [MaskOpinion(self.logits[self.sample.rows_of(image)], one) for image, one in enumerate(samples)]

    @classmethod
    def join(cls, opinions: Sequence[Any]) -> MaskOpinion:
        """Put the opinions on single images together."""
        sample = MaskSample.join([one.sample for one in opinions])
        return cls(torch.cat([one.logits for one in opinions]), sample)

"""Two-stage detectors: the anchors and RoIs that the student sampled, and what heads say about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ._rows import joined_positives, renumbered, rows_by_image
from .errors import ViewError

NEVER = -1e4  # a logit of what is not, in any type


@dataclass(frozen=True)
class AnchorSample:
    """The anchors that the student's RPN sampled from a batch.

    Attributes:
        index: Which ones, among all anchors of all images, image by image, shape ``(M,)``.
        positive: Which rows of ``index`` are positive, shape ``(P,)``.
        targets: Regression targets of the positives in the coder's normalised space, shape ``(P, 4)``.
        level_sizes: Height and width of each level's map.
        per_image: The number of anchors of one image.
    """

    index: Tensor
    positive: Tensor
    targets: Tensor
    level_sizes: tuple[tuple[int, int], ...]
    per_image: int

    @property
    def num_sampled(self) -> int:
        """Positives and negatives together, M."""
        return len(self.index)

    @property
    def image(self) -> Tensor:
        """The image of each row, shape ``(M,)``."""
        return self.index.div(self.per_image, rounding_mode='floor')

    def rescaled(self, scale: float) -> AnchorSample:
        """Refuse: the anchors of two image sizes are not the same boxes."""
        raise ViewError("anchors of two input scales are not the same boxes: distil the RoI head only ('roi')")

    def cut(self, images: int) -> list[AnchorSample]:
        """Return the samples of the single images."""
        return [
            replace(self, index=self.index[rows] - number * self.per_image, positive=kept, targets=self.targets[which])
            for number, (rows, kept, which) in enumerate(rows_by_image(self.image, self.positive, images))
        ]

    @classmethod
    def join(cls, samples: Sequence[AnchorSample]) -> AnchorSample:
        """Put the samples of single images together."""
        shifted = [sample.index + number * sample.per_image for number, sample in enumerate(samples)]
        counts = [sample.num_sampled for sample in samples]
        return replace(
            samples[0],
            index=torch.cat(shifted),
            positive=joined_positives(counts, [sample.positive for sample in samples]),
            targets=torch.cat([sample.targets for sample in samples]),
        )


@dataclass(frozen=True)
class RoISample:
    """The RoIs that the student sampled for one of its box heads.

    Attributes:
        rois: Image index and box ``(x1, y1, x2, y2)`` in the student's input, in pixels, shape ``(R, 5)``.
        positive: Which rows are positive, shape ``(P,)``.
        labels: Classes of the positives, shape ``(P,)``.
        targets: Regression targets of the positives in the coder's normalised space, shape ``(P, 4)``.
        weight: What the student's own losses of this head are multiplied with (Cascade's stage weights).
    """

    rois: Tensor
    positive: Tensor
    labels: Tensor
    targets: Tensor
    weight: float = 1.0

    @property
    def num_sampled(self) -> int:
        """Positives and negatives together, R."""
        return len(self.rois)

    @property
    def image(self) -> Tensor:
        """The image of each row, shape ``(R,)``."""
        return self.rois[:, 0].long()

    def rescaled(self, scale: float) -> RoISample:
        """Return the same RoIs in an image ``scale`` times as large."""
        return replace(self, rois=torch.cat([self.rois[:, :1], self.rois[:, 1:] * scale], dim=1))

    def cut(self, images: int) -> list[RoISample]:
        """Return the samples of the single images."""
        return [
            replace(
                self,
                rois=torch.cat([torch.zeros_like(self.rois[rows, :1]), self.rois[rows, 1:]], dim=1),
                positive=kept,
                labels=self.labels[which],
                targets=self.targets[which],
            )
            for rows, kept, which in rows_by_image(self.image, self.positive, images)
        ]

    def over(self, classes: Sequence[int]) -> RoISample:
        """Return the same RoIs where only some classes are known: positives of others are background."""
        labels = renumbered(self.labels, classes)
        kept = labels < len(classes)
        return replace(self, positive=self.positive[kept], labels=labels[kept], targets=self.targets[kept])

    @classmethod
    def join(cls, samples: Sequence[RoISample]) -> RoISample:
        """Put the samples of single images together."""
        shifted = [
            torch.cat([sample.rois[:, :1] + number, sample.rois[:, 1:]], dim=1) for number, sample in enumerate(samples)
        ]
        counts = [sample.num_sampled for sample in samples]
        return replace(
            samples[0],
            rois=torch.cat(shifted),
            positive=joined_positives(counts, [sample.positive for sample in samples]),
            labels=torch.cat([sample.labels for sample in samples]),
            targets=torch.cat([sample.targets for sample in samples]),
        )


@dataclass(frozen=True)
class BoxOpinion:
    """What one head says about a sample.

    Attributes:
        logits: One row per sampled box, background last: shape ``(R, K + 1)`` for a RoI head, ``(M, 2)`` (object,
            background) for an RPN. A sigmoid logit z is written ``[z, 0]``, which softmax reads the same.
        deltas: Box deltas of the positives, for their class, shape ``(P, 4)``.
        sample: The sample.
    """

    logits: Tensor
    deltas: Tensor
    sample: AnchorSample | RoISample

    def cut(self, images: int) -> list[BoxOpinion]:
        """Return the opinions on the single images."""
        divided = rows_by_image(self.sample.image, self.sample.positive, images)
        samples: Any = self.sample.cut(images)
        return [
            BoxOpinion(self.logits[rows], self.deltas[which], sample)
            for (rows, _, which), sample in zip(divided, samples, strict=True)
        ]

    def over(self, classes: Sequence[int]) -> BoxOpinion:
        """Return what a RoI head says of some classes; its background then holds the probability of the others too.

        Raises:
            ViewError: If it is of an RPN, whose objects have no class.
        """
        if isinstance(self.sample, AnchorSample):
            raise ViewError('what an RPN calls an object is of all classes: it cannot be asked about some')
        kept = renumbered(self.sample.labels, classes) < len(classes)
        absent = self.logits.new_ones(self.logits.shape[1] - 1, dtype=torch.bool)
        absent[list(classes)] = False
        logits = others_as_background(self.logits, absent)[:, [*classes, -1]]
        return BoxOpinion(logits, self.deltas[kept], self.sample.over(classes))

    @classmethod
    def join(cls, opinions: Sequence[BoxOpinion]) -> BoxOpinion:
        """Put the opinions on single images together."""
        logits, deltas = ([getattr(one, name) for one in opinions] for name in ('logits', 'deltas'))
        kind: Any = type(opinions[0].sample)
        return cls(torch.cat(logits), torch.cat(deltas), kind.join([opinion.sample for opinion in opinions]))


def others_as_background(logits: Tensor, absent: Tensor) -> Tensor:
    """Return softmax logits whose background is as probable as some classes and the background together.

    So Cermelli et al., Modeling Missing Annotations for Incremental Learning in Object Detection, CVPR Workshops 2022,
    compare what knows a class with what calls it background.

    Args:
        logits: The background last, shape ``(R, K + 1)``.
        absent: Which classes of each row go to the background, boolean, shape ``(R, K)`` or ``(K,)``.

    Returns:
        The same shape: the probability of such a class is 0, that of the others what it was.
    """
    absent = absent.expand(len(logits), -1)
    joined = torch.cat([absent, torch.ones_like(absent[:, :1])], dim=1)
    background = logits.masked_fill(~joined, -torch.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat([logits[:, :-1].masked_fill(absent, NEVER), background], dim=1)

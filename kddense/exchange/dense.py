"""One-stage detectors: the anchors or points that the student's loss looks at, and what dense heads say about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ._rows import joined_positives, renumbered, rows_by_image, rows_of
from .errors import ViewError


@dataclass(frozen=True)
class DenseSample:
    """The anchors or points of a batch that the student's classification loss looks at, and what they should be.

    All places are numbered as in mmdet: image by image, level by level, row by row, anchor by anchor.

    Attributes:
        index: Which places count, among ``N * L``, shape ``(M,)``.
        labels: Their classes, K for background, shape ``(M,)``.
        positive: Which rows of ``index`` are positive, shape ``(P,)``.
        targets: Regression targets of the positives, shape ``(P, 4)``: deltas in the coder's normalised space (RetinaNet,
            ATSS), or distances from the point to left, top, right and bottom in strides of its level (FCOS, GFL, RTMDet).
        priors: What is at the places of one image, in pixels: anchors ``(L, 4)`` or points ``(L, 2)``.
        level_sizes: Height and width of each level's map.
        strides: Of each level, in pixels.
        ground_truth: The boxes of each image, ``(G, 4)`` in pixels.
        num_classes: K.
        left_out: Of each image, how many places do not count as they were not sampled for want of labels: there the student
            finds nothing. A mean over places is over them too, lest an image without labels weigh more than others.
    """

    index: Tensor
    labels: Tensor
    positive: Tensor
    targets: Tensor
    priors: Tensor
    level_sizes: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    ground_truth: tuple[Tensor, ...]
    num_classes: int
    left_out: tuple[int, ...] = ()

    @property
    def num_sampled(self) -> int:
        """Positives and negatives together, M."""
        return len(self.index)

    @property
    def num_places(self) -> int:
        """What a mean over places is over: M, and what is left out of images without labels."""
        return self.num_sampled + sum(self.left_out)

    @property
    def num_positive(self) -> int:
        """Positives alone, P."""
        return len(self.positive)

    @property
    def image(self) -> Tensor:
        """The image of each row, shape ``(M,)``."""
        return self.index.div(len(self.priors), rounding_mode='floor')

    @property
    def levels(self) -> Tensor:
        """The level of each place of one image, shape ``(L,)``."""
        sizes = torch.tensor([height * width for height, width in self.level_sizes], device=self.priors.device)
        at_each = len(self.priors) // int(sizes.sum())
        return torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes * at_each)

    def rescaled(self, scale: float) -> DenseSample:
        """Refuse: the anchors and points of two image sizes are not the same places."""
        raise ViewError('anchors and points of two input scales are not the same places: a teacher cannot judge them')

    def cut(self, images: int) -> list[DenseSample]:
        """Return the samples of the single images."""
        return [
            replace(
                self,
                index=self.index[rows] - number * len(self.priors),
                labels=self.labels[rows],
                positive=kept,
                targets=self.targets[which],
                ground_truth=self.ground_truth[number : number + 1],
                left_out=self.left_out[number : number + 1],
            )
            for number, (rows, kept, which) in enumerate(rows_by_image(self.image, self.positive, images))
        ]

    def over(self, classes: Sequence[int]) -> DenseSample:
        """Return the same places where only some classes are known: positives of others are background."""
        labels = renumbered(self.labels, classes)
        kept = labels[self.positive] < len(classes)
        return replace(
            self,
            labels=labels,
            positive=self.positive[kept],
            targets=self.targets[kept],
            num_classes=len(classes),
        )

    @classmethod
    def join(cls, samples: Sequence[DenseSample]) -> DenseSample:
        """Put the samples of single images together."""
        shifted = [sample.index + number * len(sample.priors) for number, sample in enumerate(samples)]
        counts = [sample.num_sampled for sample in samples]
        return replace(
            samples[0],
            index=torch.cat(shifted),
            labels=torch.cat([sample.labels for sample in samples]),
            positive=joined_positives(counts, [sample.positive for sample in samples]),
            targets=torch.cat([sample.targets for sample in samples]),
            ground_truth=tuple(boxes for sample in samples for boxes in sample.ground_truth),
            left_out=tuple(number for sample in samples for number in sample.left_out),
        )


@dataclass(frozen=True)
class DenseOpinion:
    """What a dense head says about a sample; rows are gathered from its maps only when they are asked for.

    Attributes:
        sample: The sample.
        score_maps: Sigmoid logits of each level, ``(N, A * K, h, w)``.
        box_maps: Deltas or distances of each level as in :class:`DenseSample`, ``(N, A * 4, h, w)``; with a ``reg_max``
            n, logits of the distribution of each distance, ``(N, 4 * (n + 1), h, w)``.
        reg_max: The greatest distance that a distribution knows, in strides; ``None`` for heads without distributions.
    """

    sample: DenseSample
    score_maps: tuple[Tensor, ...]
    box_maps: tuple[Tensor, ...]
    reg_max: int | None = None

    @property
    def logits(self) -> Tensor:
        """One row of sigmoid logits per sampled place, no background, shape ``(M, K)``, in float32."""
        return self.logits_at(self.sample.index)

    @property
    def deltas(self) -> Tensor:
        """Deltas or distances of the positives, shape ``(P, 4)``, in float32."""
        return self.deltas_at(self.sample.index[self.sample.positive])

    def logits_at(self, index: Tensor) -> Tensor:
        """Return sigmoid logits at any places, numbered as ``sample.index``, shape ``(len(index), K)``."""
        return rows_of(self.score_maps, self.sample.num_classes, self.sample.level_sizes)[index].float()

    def best_scores(self) -> Tensor:
        """Return the greatest class score, before the sigmoid, at each place of each image, shape ``(N, L)``."""
        rows = rows_of(self.score_maps, self.sample.num_classes, self.sample.level_sizes)
        return rows.amax(dim=1).view(-1, len(self.sample.priors))

    def deltas_at(self, index: Tensor) -> Tensor:
        """Return deltas or distances at any places, shape ``(len(index), 4)``; of a distribution, its mean."""
        if self.reg_max is None:
            return rows_of(self.box_maps, 4, self.sample.level_sizes)[index].float()
        probabilities = self.distributions_at(index).softmax(dim=2)
        return (probabilities * torch.arange(self.reg_max + 1, device=index.device)).sum(dim=2)

    def distributions_at(self, index: Tensor) -> Tensor:
        """Return the logits of the distributions of distances at any places, shape ``(len(index), 4, n + 1)``.

        Raises:
            ViewError: If the head has none.
        """
        if self.reg_max is None:
            raise ViewError('only heads that learn distributions of distances (GFLHead) have some to compare')
        channels = 4 * (self.reg_max + 1)
        return rows_of(self.box_maps, channels, self.sample.level_sizes)[index].float().unflatten(1, (4, -1))

    def cut(self, images: int) -> list[DenseOpinion]:
        """Return the opinions on the single images."""
        return [
            replace(self, sample=sample, score_maps=_rows(self.score_maps, row), box_maps=_rows(self.box_maps, row))
            for row, sample in enumerate(self.sample.cut(images))
        ]

    def over(self, classes: Sequence[int]) -> DenseOpinion:
        """Return what the head says of some classes, each of which it decides on its own."""
        maps = [level.unflatten(1, (-1, self.sample.num_classes)) for level in self.score_maps]
        chosen = tuple(level[:, :, list(classes)].flatten(1, 2) for level in maps)
        return replace(self, sample=self.sample.over(classes), score_maps=chosen)

    @classmethod
    def join(cls, opinions: Sequence[DenseOpinion]) -> DenseOpinion:
        """Put the opinions on single images together."""
        return replace(
            opinions[0],
            sample=DenseSample.join([opinion.sample for opinion in opinions]),
            score_maps=_together([opinion.score_maps for opinion in opinions]),
            box_maps=_together([opinion.box_maps for opinion in opinions]),
        )


def _rows(maps: Sequence[Tensor], row: int) -> tuple[Tensor, ...]:
    return tuple(level[row : row + 1] for level in maps)


def _together(maps: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(levels) for levels in zip(*maps, strict=True))

"""Vectors that are remembered from step to step, the latest of each class."""

from __future__ import annotations

import torch
from mmengine.dist import all_gather_object, get_world_size
from torch import Tensor

from kddense.models._memory import Memory
from kddense.registry import MODELS


@MODELS.register_module()
class ClassQueue(Memory):
    """Holds the latest vectors of each class, at most so many; a new one takes the place of the oldest.

    New vectors are gathered over all processes, so that every process holds the same ones; every process has to call
    :meth:`add` equally often. Memory grows with what has been added, up to ``classes * size * dim`` numbers of four bytes. A
    queue is no part of what is trained; see :class:`MemoryBank`.

    Args:
        classes: How many there are, K.
        size: How many vectors of each class are held at most.
        dim: The length of a vector, C.

    Attributes:
        vectors: Shape ``(K, held, C)``, float32.
        counts: How many vectors of each class have ever been added, int64, shape ``(K,)``.

    Raises:
        ValueError: If a number is below 1.
    """

    tensors = ('vectors', 'counts')

    def __init__(self, classes: int, size: int, dim: int) -> None:
        super().__init__()
        for name, value in (('classes', classes), ('size', size), ('dim', dim)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        self.size = size
        self.vectors = torch.zeros(classes, 0, dim)
        self.counts = torch.zeros(classes, dtype=torch.long)

    @torch.no_grad()
    def add(self, labels: Tensor, vectors: Tensor) -> None:
        """Add vectors to the queues of their classes.

        Args:
            labels: Of 0 to K - 1, integers, shape ``(M,)``.
            vectors: Shape ``(M, C)``; no gradient flows through them.
        """
        labels, vectors = _of_all_processes(labels.cpu(), vectors.detach().float())
        order, counts = labels.argsort(stable=True), labels.bincount(minlength=len(self.counts))
        labels, place = labels[order], ranks(counts)
        before, number = self.counts.cpu(), counts[labels]
        latest = place >= number - self.size
        self._make_room(min(int((before + counts)[counts > 0].max()) if len(labels) else 0, self.size))
        rows, columns = labels[latest], ((before[labels] + place) % self.size)[latest]
        device = self.vectors.device
        self.vectors[rows.to(device), columns.to(device)] = vectors.to(self.vectors)[order[latest].to(vectors.device)]
        self.counts += counts.to(self.counts.device)

    def _make_room(self, wanted: int) -> None:
        classes, held, dim = self.vectors.shape
        if wanted > held:
            more = min(max(wanted, 2 * held), self.size) - held
            self.vectors = torch.cat([self.vectors, self.vectors.new_zeros(classes, more, dim)], dim=1)

    def sample(self, each: int) -> Tensor:
        """Return vectors drawn at random, at most ``each`` of every class, shape ``(M, C)``; none twice, none unwritten."""
        rows, columns = [], []
        for label, count in enumerate(self.counts.clamp(max=self.size).tolist()):
            columns.append(torch.randperm(count)[:each] if count > each else torch.arange(count))
            rows.append(torch.full_like(columns[-1], label))
        device = self.vectors.device
        return self.vectors[torch.cat(rows).to(device), torch.cat(columns).to(device)]

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        classes, held, dim = saved['vectors'].shape
        if (classes, dim) != (len(self.counts), self.vectors.shape[2]) or held > self.size:
            raise ValueError(
                f'the checkpoint holds queues of {classes} classes, {held} vectors and {dim} channels, and here are '
                f'{len(self.counts)}, at most {self.size} and {self.vectors.shape[2]}: resume with the options that it '
                'was trained with'
            )


def ranks(counts: Tensor) -> Tensor:
    """Return 0, 1, … for the members of each group in turn, of groups with so many members, shape ``(counts.sum(),)``."""
    first = counts.cumsum(0) - counts
    return torch.arange(int(counts.sum())) - first.repeat_interleave(counts)


def _of_all_processes(labels: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    if get_world_size() == 1:
        return labels, vectors
    everywhere = all_gather_object((labels, vectors.cpu()))
    return torch.cat([own for own, _ in everywhere]), torch.cat([own for _, own in everywhere])

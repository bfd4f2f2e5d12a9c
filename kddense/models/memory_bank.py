"""Rows that are remembered from step to step, one for each image of the data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch
from mmengine.dist import all_gather_object
from torch import Tensor
from torch.nn import functional as F

from kddense.models._memory import Memory
from kddense.registry import MODELS


@MODELS.register_module()
class MemoryBank(Memory):
    r"""Holds a vector of length 1 for each id, moved towards new values by a momentum.

    .. math:: v \leftarrow \frac{m v + (1 - m) x}{\lVert m v + (1 - m) x \rVert}

    New ids and values are gathered over all processes, so that every process holds the same rows; every process has to
    call it equally often. A bank is no part of what is trained: its tensors are no parameters, no optimiser, EMA copy or
    DDP bucket holds them, and a deep copy shares them. They follow ``.to()``, and are in the state that is saved and
    restored.

    Rows are written in place: whoever needs them in a backward pass takes copies, as indexing and calling the bank do.

    An objective with a bank gives it its size before the first step of a run:

    Example:
        >>> from kddense.configs import training_set_size
        >>> class Contrast(Objective):
        ...     def check_run(self, config, checkpoint):
        ...         self.bank.allocate(training_set_size(config))

    Args:
        dim: The length of a row, C.
        size: The number of rows, that of the images of the training set; ``None`` to give it to :meth:`allocate` later.
        momentum: m, what is kept of a row that is updated, from 0 to 1.
        seed: Of the rows that were never updated; two banks of one seed begin with the same rows.

    Attributes:
        vectors: All rows, float32, shape ``(size, C)``.
        ids: The ids that are known, as int64; the row of ``ids[i]`` is ``vectors[i]``.
        labels: The class of each row, int64, shape ``(size,)``, -1 where none was given.

    Raises:
        ValueError: If a size is below 1, or the momentum is not between 0 and 1.
    """

    tensors = ('vectors', 'ids', 'labels')

    def __init__(self, dim: int, size: int | None = None, momentum: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f'dim must be at least 1, got {dim}')
        if not 0 <= momentum <= 1:
            raise ValueError(f'momentum must be between 0 and 1, got {momentum}')
        self.dim = dim
        self.momentum = momentum
        self.seed = seed
        self.vectors = torch.zeros(0, dim)
        self.ids = torch.zeros(0, dtype=torch.long)
        self.labels = torch.zeros(0, dtype=torch.long)
        self._rows: dict[int, int] = {}
        if size is not None:
            self.allocate(size)

    def allocate(self, size: int | None) -> None:
        """Make the rows; a bank that has as many, out of a checkpoint say, stays as it is.

        Args:
            size: The number of images of the training set.

        Raises:
            ValueError: If it is not known, below 1, or not that of a bank that has rows already.
        """
        if size is None:
            raise ValueError(
                'a memory bank without a data-set length: train by a config whose train_dataloader.dataset has one, or give '
                'the bank its size'
            )
        if size < 1:
            raise ValueError(f'the size of a memory bank must be at least 1, got {size}')
        if len(self.vectors) not in (0, size):
            raise ValueError(
                f'the memory bank holds {len(self.vectors)} rows and the training set {size} images: resume with the data '
                'set that the checkpoint was trained on'
            )
        if len(self.vectors) == 0:
            random = torch.Generator().manual_seed(self.seed)
            rows = F.normalize(torch.randn(size, self.dim, generator=random), dim=1)
            self.vectors = rows.to(self.vectors.device)
            self.labels = self.ids.new_full((size,), -1)

    def index(self, ids: Sequence[int | str]) -> Tensor:
        """Return the rows of ids, int64, shape ``(len(ids),)``; ids that are new to any process get free rows.

        Raises:
            ValueError: If the bank has no rows yet, or none that is free.
        """
        keys = [_key(one) for one in ids]
        self._add(key for here in all_gather_object(keys) for key in here)
        return torch.tensor([self._rows[key] for key in keys], dtype=torch.long, device=self.vectors.device)

    def forward(self, ids: Sequence[int | str]) -> Tensor:
        """Return copies of the vectors of ids, shape ``(len(ids), C)``."""
        return self.vectors[self.index(ids)]

    @torch.no_grad()
    def update(self, ids: Sequence[int | str], values: Tensor, labels: Tensor | None = None) -> None:
        """Move the rows of ids towards values; of an id that comes several times, the last value counts.

        Args:
            ids: Of the images of this process.
            values: Shape ``(len(ids), C)``; no gradient flows through them.
            labels: Their classes, integers, shape ``(len(ids),)``; -1 by default.

        Raises:
            ValueError: See :meth:`index`.
        """
        labels = torch.full((len(values),), -1) if labels is None else labels
        here = ([_key(one) for one in ids], values.detach().float().cpu(), labels.cpu())
        everywhere = all_gather_object(here)
        keys = [key for own, _, _ in everywhere for key in own]
        self._add(keys)
        latest = {self._rows[key]: number for number, key in enumerate(keys)}
        rows = torch.tensor(list(latest), dtype=torch.long, device=self.vectors.device)
        order = list(latest.values())
        new = torch.cat([own for _, own, _ in everywhere])[order].to(self.vectors)
        kept = self.momentum * self.vectors[rows]
        self.vectors[rows] = F.normalize(kept + (1 - self.momentum) * new, dim=1)
        self.labels[rows] = torch.cat([own for _, _, own in everywhere])[order].to(self.labels)

    def _add(self, keys: Iterator[int] | Sequence[int]) -> None:
        if len(self.vectors) == 0:
            self.allocate(None)
        new = [key for key in dict.fromkeys(keys) if key not in self._rows]
        if len(self._rows) + len(new) > len(self.vectors):
            raise ValueError(
                f'the memory bank is full: it has {len(self.vectors)} rows, and more ids than these come along; its size '
                'must be the number of images of the training set'
            )
        if new:
            self.ids = torch.cat([self.ids, self.ids.new_tensor(new)])
            self._rows.update({key: len(self._rows) + number for number, key in enumerate(new)})

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        if len(self.vectors):
            self.allocate(len(saved['vectors']))

    def restored(self) -> None:
        self._rows = {key: row for row, key in enumerate(self.ids.tolist())}


def _key(one: int | str) -> int:
    """Return an id as an int64, the same in every process."""
    if isinstance(one, str):
        return int.from_bytes(hashlib.sha256(one.encode()).digest()[:8], 'big', signed=True)
    return int(one)

"""Samplers that say with every index in which pass over the images it is drawn."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.dataset import DefaultSampler, InfiniteSampler

from kddense.registry import DATA_SAMPLERS, Plain


class Draw(int):
    """The index of an image, and how often that image has been drawn before.

    Attributes:
        number: The pass over all images, from 0: the epoch, if an image is drawn once in each.
        again: Whether the next draw is of the same image.
    """

    number: int
    again: bool

    def __new__(cls, index: int, number: int, again: bool = False) -> Draw:
        """Return an index that knows its pass."""
        draw = super().__new__(cls, index)
        draw.number = number
        draw.again = again
        return draw

    def __reduce__(self) -> tuple[Any, ...]:
        return Draw, (int(self), self.number, self.again)


def _in_views(draws: Iterable[Draw], views: int) -> Iterator[Draw]:
    """Yield every image so many times in a row, each in a pass of its own."""
    for draw in draws:
        for view in range(views):
            yield Draw(int(draw), draw.number * views + view, again=view + 1 < views)


def _check_views(views: int) -> None:
    if views < 1:
        raise ValueError(f'views must be at least 1, got {views}')


@DATA_SAMPLERS.register_module()
class VariantSampler(DefaultSampler):
    """mmengine's ``DefaultSampler``, with the same options and the same order, for a :class:`kddense.VariantDataset`.

    Args:
        dataset: See ``DefaultSampler``, as further options.
        views: How many variants of an image follow each other, at least 1: it is decoded once for all of them. An epoch is
            as long as ever and has as many times fewer images; after so many epochs all have been drawn as often.
        **kwargs: See ``DefaultSampler``.

    Raises:
        ValueError: If ``views`` is below 1.

    Example:
        >>> train_dataloader = dict(sampler=dict(type='kddense.VariantSampler'))  # over that of the base config
    """

    epoch: int

    def __init__(self, dataset: Any, views: int = 1, **kwargs: Any) -> None:
        _check_views(views)
        super().__init__(dataset, **kwargs)
        self.views = views

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this process, each with its pass."""
        round_, part = divmod(self.epoch, self.views)
        indices = self._order(round_)
        draws = [Draw(index, round_) for index in (*indices[part :: self.views], *indices)]
        return itertools.islice(_in_views(draws, self.views), len(indices))

    def _order(self, epoch: int) -> list[int]:
        """Return the indices of this process as mmengine orders them in an epoch."""
        now, self.epoch = self.epoch, epoch
        try:
            return list(super().__iter__())
        finally:
            self.epoch = now

    @staticmethod
    def plain(config: Mapping[str, Any], place: str) -> Plain:
        """Return the stock sampler; see :class:`kddense.registry.Plain`."""
        return Plain((_stock(config, 'DefaultSampler'),))


@DATA_SAMPLERS.register_module()
class InfiniteVariantSampler(InfiniteSampler):
    """mmengine's ``InfiniteSampler``, with the same options and the same order, for a :class:`kddense.VariantDataset`.

    Args:
        dataset: See ``InfiniteSampler``, as further options.
        views: How many variants of an image follow each other, at least 1: it is decoded once for all of them.
        **kwargs: See ``InfiniteSampler``.

    Raises:
        ValueError: If ``views`` is below 1.

    Example:
        >>> train_dataloader = dict(sampler=dict(type='kddense.InfiniteVariantSampler'))  # over that of the base config
    """

    def __init__(self, dataset: Any, views: int = 1, **kwargs: Any) -> None:
        _check_views(views)
        self.views = views
        super().__init__(dataset, **kwargs)

    def _infinite_indices(self) -> Iterator[int]:
        for place, index in enumerate(super()._infinite_indices()):
            yield Draw(index, place // self.size)

    def _indices_of_rank(self) -> Iterator[int]:
        return _in_views(super()._indices_of_rank(), self.views)

    @staticmethod
    def plain(config: Mapping[str, Any], place: str) -> Plain:
        """Return the stock sampler; see :class:`kddense.registry.Plain`."""
        return Plain((_stock(config, 'InfiniteSampler'),))


def _stock(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**{key: value for key, value in config.items() if key != 'views'}, 'type': name}

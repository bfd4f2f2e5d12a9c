"""Samplers that say with every index in which pass over the images it is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.dataset import DefaultSampler, InfiniteSampler

from kddense.registry import DATA_SAMPLERS, Plain


class Draw(int):
    """The index of an image, and the pass over all images in which it is drawn.

    Attributes:
        number: The pass, from 0: the epoch.
    """

    number: int

    def __new__(cls, index: int, number: int) -> Draw:
        """Return an index that knows its pass."""
        draw = super().__new__(cls, index)
        draw.number = number
        return draw

    def __reduce__(self) -> tuple[Any, ...]:
        return Draw, (int(self), self.number)


@DATA_SAMPLERS.register_module()
class VariantSampler(DefaultSampler):
    """mmengine's ``DefaultSampler``, with the same options and the same order, for a :class:`kddense.VariantDataset`.

    Example:
        >>> train_dataloader = dict(sampler=dict(type='kddense.VariantSampler'))  # over that of the base config
    """

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this process, each with the epoch."""
        return (Draw(index, self.epoch) for index in super().__iter__())

    @staticmethod
    def plain(config: Mapping[str, Any], place: str) -> Plain:
        """Return the stock sampler; see :class:`kddense.registry.Plain`."""
        return Plain(({**config, 'type': 'DefaultSampler'},))


@DATA_SAMPLERS.register_module()
class InfiniteVariantSampler(InfiniteSampler):
    """mmengine's ``InfiniteSampler``, with the same options and the same order, for a :class:`kddense.VariantDataset`.

    Example:
        >>> train_dataloader = dict(sampler=dict(type='kddense.InfiniteVariantSampler'))  # over that of the base config
    """

    def _infinite_indices(self) -> Iterator[int]:
        for place, index in enumerate(super()._infinite_indices()):
            yield Draw(index, place // self.size)

    @staticmethod
    def plain(config: Mapping[str, Any], place: str) -> Plain:
        """Return the stock sampler; see :class:`kddense.registry.Plain`."""
        return Plain(({**config, 'type': 'InfiniteSampler'},))

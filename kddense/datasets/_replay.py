"""Whether random transforms can be played again by seeding PyTorch, numpy and Python."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from kddense.errors import ConfigError
from kddense.random_state import fixed_random_state

if TYPE_CHECKING:
    from .variants import VariantDataset

TRIED = 2  # images, the first and the last


def check_replays(dataset: VariantDataset) -> None:
    """Draw a variant of some images twice, and compare.

    Raises:
        ConfigError: If a transform keeps images of before, or draws by a source that is not seeded.
    """
    for transform in _transforms(dataset.dataset):
        if hasattr(transform, 'results_cache'):
            raise _error(transform, 'keeps images of before, which no seed brings back: take it without its cache')
    for index in sorted({0, len(dataset) - 1}) if len(dataset) else ():
        first, second = (dataset.drawn(index, 0) for _ in range(2))
        if _prints(first) != _prints(second):
            raise _error(_unseeded(dataset, index), 'draws random numbers that torch, numpy and random do not give')


def _error(transform: Any, fault: str) -> ConfigError:
    name = type(transform).__name__ if transform is not None else 'a transform'
    return ConfigError(
        f'{name} {fault}; a variant could not be drawn again',
        'pipeline:',
        'train_dataloader.dataset',
    )


def _transforms(dataset: Any) -> Iterator[Any]:
    """Yield the transforms of a data set and of those that it wraps."""
    pipeline = getattr(dataset, 'pipeline', None)
    for transform in getattr(pipeline, 'transforms', pipeline) or ():
        yield from _unpacked(transform)
    inner = [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())]
    for one in inner:
        if one is not None and one is not dataset:
            yield from _transforms(one)


def _unpacked(transform: Any) -> Iterator[Any]:
    """Yield a transform, and those in it: of a list, of a ``Compose``, or of several to choose from."""
    if isinstance(transform, (list, tuple)):
        for part in transform:
            yield from _unpacked(part)
        return
    yield transform
    if hasattr(transform, 'transforms'):
        yield from _unpacked(transform.transforms)


def _unseeded(dataset: VariantDataset, index: int) -> Any:
    """Return the first transform after which two runs of one seed differ; ``None`` if it cannot be told."""
    runs = [_after_each(dataset, index) for _ in range(2)]
    for (transform, first), (_, second) in zip(*runs, strict=False):
        if first != second:
            return transform
    return None


def _after_each(dataset: VariantDataset, index: int) -> list[tuple[Any, str]]:
    inner = dataset.dataset
    if not hasattr(inner, 'get_data_info') or not hasattr(getattr(inner, 'pipeline', None), 'transforms'):
        return []
    prints = []
    with fixed_random_state(dataset.seed_of(index, 0), cuda=False):
        results: Any = inner.get_data_info(index)
        for transform in inner.pipeline.transforms:
            results = transform(results)
            prints.append((transform, _prints(results)))
            if results is None:
                break
    return prints


def _prints(value: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in _flat(value, 0):
        digest.update(part)
    return digest.hexdigest()


def _flat(value: Any, depth: int) -> Iterator[bytes]:
    """Yield the numbers and texts that a value is made of."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield f'{value.dtype}{value.shape}'.encode() + np.ascontiguousarray(value).tobytes()
    elif isinstance(value, (str, int, float, bool, type(None), bytes)):
        yield repr(value).encode()
    elif depth > 12:
        return
    elif isinstance(value, dict):
        for key in value:
            yield repr(key).encode()
            yield from _flat(value[key], depth + 1)
    elif isinstance(value, (list, tuple, np.ndarray)):
        for item in value:
            yield from _flat(item, depth + 1)
    elif hasattr(value, '__dict__'):
        yield from _flat(vars(value), depth + 1)

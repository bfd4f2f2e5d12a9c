"""An image that is drawn several times in a row is read and decoded once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dataset import Compose

from kddense.errors import ConfigError

LOADERS = 'Load'  # how the names of transforms begin that read files and draw no random numbers


class DecodedOnce:
    """Draws from a data set, and keeps what its first transforms loaded as long as the same image comes next.

    Args:
        dataset: A data set with a pipeline that begins with transforms that load; data sets of kddense may stand around it.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._index: int | None = None
        self._loaded: Any = None

    def draw(self, index: int, again: bool) -> Any:
        """Return an image as ``dataset[index]`` does, with the same random numbers.

        Args:
            index: Of the image.
            again: Whether the next draw is of the same image.

        Raises:
            ConfigError: If the data set cannot be drawn from in two parts.
        """
        if not again and index != self._index:
            return self._dataset[index]
        pipeline: Any = getattr(self._dataset, 'pipeline', None)
        loading, rest = _parts(pipeline, self._dataset)
        if index != self._index:
            self._index, self._loaded = index, _Loaded(Compose(loading))
        self._dataset.pipeline = _AfterLoading(self._loaded, Compose(rest), pipeline)
        try:
            return self._dataset[index]
        finally:
            self._dataset.pipeline = pipeline
            if not again:
                self._index = self._loaded = None


class _Loaded:
    """An image that is loaded when it is first asked for."""

    def __init__(self, load: Callable[[Any], Any]) -> None:
        self._load = load
        self._results: Any = None

    def copy_of(self, info: Any) -> Any:
        if self._results is None:
            self._results = self._load(info)
        return copy.deepcopy(self._results)


class _AfterLoading:
    """A pipeline whose first image was loaded before; if a transform gives that up, the data set draws others."""

    def __init__(self, loaded: _Loaded, rest: Callable[[Any], Any], whole: Callable[[Any], Any]) -> None:
        self._first = [loaded]
        self._rest = rest
        self._whole = whole

    def __call__(self, info: Any) -> Any:
        if not self._first:
            return self._whole(info)
        loaded = self._first.pop().copy_of(info)
        return None if loaded is None else self._rest(loaded)


def _parts(pipeline: Any, dataset: Any) -> tuple[Sequence[Callable], Sequence[Callable]]:
    """Return the transforms that load, and those after them; hooks may change the pipeline in the middle of a run."""
    transforms = getattr(pipeline, 'transforms', ())
    count = next(
        (place for place, one in enumerate(transforms) if not type(one).__name__.startswith(LOADERS)),
        len(transforms),
    )
    if not count:
        raise ConfigError(
            f'.views needs a data set whose own pipeline begins by loading, a {type(dataset).__name__} has none: '
            'remove views',
            'train_dataloader.sampler',
        )
    return transforms[:count], transforms[count:]

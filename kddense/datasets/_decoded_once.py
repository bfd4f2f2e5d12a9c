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
        dataset: A data set with ``get_data_info`` and a pipeline that begins with transforms that load.
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

        Returns:
            What the data set gives; ``None`` if a transform gave the image up.

        Raises:
            ConfigError: If the data set cannot be drawn from in two parts.
        """
        if not again and index != self._index:
            return self._dataset[index]
        loading, rest = self._parts()
        loaded = self._loaded if index == self._index else Compose(loading)(self._dataset.get_data_info(index))
        self._index, self._loaded = (index, loaded) if again else (None, None)
        return Compose(rest)(copy.deepcopy(loaded) if again else loaded)

    def _parts(self) -> tuple[Sequence[Callable], Sequence[Callable]]:
        """Return the transforms that load, and those after them; hooks may change the pipeline in the middle of a run."""
        transforms = getattr(getattr(self._dataset, 'pipeline', None), 'transforms', ())
        count = next(
            (place for place, one in enumerate(transforms) if not type(one).__name__.startswith(LOADERS)),
            len(transforms),
        )
        if not count or not hasattr(self._dataset, 'get_data_info'):
            raise ConfigError(
                f'.views needs a data set whose own pipeline begins by loading, a {type(self._dataset).__name__} has none: '
                'remove views',
                'train_dataloader.sampler',
            )
        return transforms[:count], transforms[count:]

"""What reading the training images costs, with one and with several views behind each decoding."""

from __future__ import annotations

import copy
import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from kddense.datasets import InfiniteVariantSampler
from kddense.errors import ConfigError, within
from kddense.report.costs import median_ratio, timed
from kddense.report.page import machine, versions

VARIANTS = 'kddense.VariantDataset'


def measure_loading(
    config: Config, views: Sequence[int], rounds: int = 10, images: int = 64, clock: str = 'wall'
) -> dict[str, Any]:
    """Time the reading of training images in this process, without workers, in turns.

    Args:
        config: A training config, of any model.
        views: For each row, how many variants of an image follow each other.
        rounds: Each reads so many images for every row; a first one more is not counted.
        images: How many are read in a row.
        clock: See :func:`kddense.report.costs.timed`.

    Returns:
        For JSON: ``rows``, the median milliseconds of an image by views; ``ratio``, the median of the rounds' ratios to the
        first row; the machine and versions.

    Raises:
        ConfigError: If the config has no training images.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    if not config.get('train_dataloader'):
        raise ConfigError('--config has no train_dataloader: there are no images to read')
    written = config.train_dataloader.dataset
    if written.type != VARIANTS:
        written = dict(type=VARIANTS, dataset=written, variants=max(views))
    with within('train_dataloader.dataset'):
        dataset: Any = DATASETS.build(copy.deepcopy(written))
    orders = {count: iter(InfiniteVariantSampler(dataset, views=count, seed=0)) for count in views}
    times: dict[int, list[float]] = {count: [] for count in views}
    for turn in range(rounds + 1):
        for count, order in orders.items():
            seconds = timed(lambda order=order: _read(dataset, order, images), 'cpu', clock)  # type: ignore[misc]
            if turn:
                times[count].append(1000 * seconds / images)
    return {
        'rows': {str(count): statistics.median(found) for count, found in times.items()},
        'ratio': {str(count): median_ratio(found, times[views[0]]) for count, found in times.items()},
        'images': images,
        'rounds': rounds,
        'machine': machine(),
        'versions': versions(),
    }


def table(found: dict[str, Any]) -> str:
    """Return the rows as text."""
    lines = [f'{count:>5} {one:9.2f} {found["ratio"][count]:9.3f}' for count, one in found['rows'].items()]
    return '\n'.join(['views  ms/image     ratio', *lines])


def _read(dataset: Any, order: Any, images: int) -> None:
    for draw in itertools.islice(order, images):
        dataset[draw]

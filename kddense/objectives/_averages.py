"""What sums over the places of a dense head are divided by."""

from __future__ import annotations

from typing import Any

import torch
from mmengine import dist
from torch import Tensor

from kddense.exchange import DenseSample

AVERAGES = ('rows', 'positives')


def check_average(average: str) -> None:
    """Raise a ValueError unless ``average`` says what a sum over the places of a dense head is divided by."""
    if average not in AVERAGES:
        raise ValueError(f"average must be 'rows' or 'positives', got {average!r}")


def count_of(sample: DenseSample, average: str = 'positives') -> float:
    """Return what a sum over the places of a dense head is divided by, at least 1.

    Args:
        sample: The places.
        average: ``'rows'``: all places of the sample, and of images without labels those that it leaves out too.
            ``'positives'``: the number of positives in the batch, as in the heads' own losses. As in most of those, it is
            averaged over the processes of a distributed training, so that their gradients add up to those of one process.
    """
    if average == 'rows':
        return max(sample.num_places, 1)
    if dist.get_world_size() == 1:
        return max(sample.num_positive, 1)
    count = torch.tensor(float(sample.num_positive), device=sample.index.device)
    dist.all_reduce(count, op='mean')
    return max(count.item(), 1.0)


def averaged(mean: Tensor, sample: Any, average: str) -> Tensor:
    """Return a mean over all places of a dense head divided by what ``average`` says instead; that of other places as it is.

    Args:
        mean: Over the rows of the sample.
        sample: The places.
        average: See :func:`count_of`.
    """
    if not isinstance(sample, DenseSample):
        return mean
    return mean * (sample.num_sampled / count_of(sample, average))

"""The random-number streams of a process: Python's, numpy's, PyTorch's on the CPU and on its own GPU."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def get_random_state(cuda: bool = True) -> dict[str, Any]:
    """Return the state of every stream as plain tensors, numbers and lists: a checkpoint may hold it as data.

    Args:
        cuda: Also that of the GPU, which a worker of a data loader must not touch.
    """
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return dict(
        python=[version, list(internal), gauss],
        numpy=[
            str(kind),
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        torch=torch.get_rng_state(),
        cuda=[torch.cuda.get_rng_state()] if cuda and torch.cuda.is_available() else [],
    )


def set_random_state(state: dict[str, Any]) -> None:
    """Put every stream where :func:`get_random_state` found it."""
    version, internal, gauss = state['python']
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state['numpy']
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state['torch'])
    if state['cuda'] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'][0])


@contextmanager
def forked_random_state(cuda: bool = True) -> Iterator[None]:
    """Let a block draw random numbers without moving the streams of the code around it.

    Args:
        cuda: Also that of the GPU, which a worker of a data loader must not touch.
    """
    state = get_random_state(cuda)
    try:
        yield
    finally:
        set_random_state(state)


@contextmanager
def fixed_random_state(seed: int = 0, cuda: bool = True) -> Iterator[None]:
    """Let a block draw the same random numbers each time, without moving the streams of the code around it.

    Args:
        seed: Of all streams, in 0..2^32 - 1.
        cuda: Also that of the GPU, which a worker of a data loader must not touch.
    """
    with forked_random_state(cuda):
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        if cuda and torch.cuda.is_available():
            torch.cuda.manual_seed(seed)
        yield

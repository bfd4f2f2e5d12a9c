"""The random numbers of a data loader's workers: heard of with each batch, and restored where workers start."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.dataset import InfiniteSampler
from torch.utils.data import DataLoader, get_worker_info

from kddense.random_state import get_random_state, set_random_state

STATE = '_random_state_of_worker'


@dataclass
class TellingCollate:
    """A ``collate_fn`` that adds to each batch, a dict, where it leaves the random numbers of the worker that made it.

    Attributes:
        collate: The loader's own.
    """

    collate: Callable[[Any], Any]

    def __call__(self, samples: Any) -> Any:
        batch = self.collate(samples)
        worker = get_worker_info()
        if worker is not None and isinstance(batch, dict):
            # As bytes, into which no pin_memory looks.
            batch[STATE] = (worker.id, pickle.dumps(get_random_state(cuda=False)))
        return batch


@dataclass
class RestoringInit:
    """A ``worker_init_fn`` that then puts the random numbers of each worker where they were.

    Attributes:
        init: The loader's own.
        states: States by the number of the worker; ``None`` for one that had made no batch.
    """

    init: Callable[[int], None] | None
    states: Sequence[dict[str, Any] | None]

    def __call__(self, number: int) -> None:
        if self.init is not None:
            self.init(number)
        state = self.states[number]
        if state is not None:
            set_random_state(state)


@dataclass(frozen=True)
class Told:
    """Where the streams of a worker of this process are; bytes of a checkpoint are none, and are never unpickled.

    Attributes:
        pickled: The state, as the worker sent it.
    """

    pickled: bytes

    def state(self) -> dict[str, Any]:
        """Return the state."""
        return pickle.loads(self.pickled)


def heard_in(batch: Any) -> tuple[int, Told] | None:
    """Take out of a batch what :class:`TellingCollate` added: the number of the worker, and where its streams are."""
    heard = batch.pop(STATE, None) if isinstance(batch, dict) else None
    return None if heard is None else (heard[0], Told(heard[1]))


def has_persistent_workers(loader: DataLoader) -> bool:
    """Tell whether workers outlive an epoch, and their random numbers with them."""
    return loader.num_workers > 0 and loader.persistent_workers


def sampler_of(loader: DataLoader) -> Any:
    """Return the sampler of a loader, which may be inside its batch sampler."""
    return loader.sampler if hasattr(loader.sampler, 'seed') else getattr(loader.batch_sampler, 'sampler', None)


def seeds_of(loader: DataLoader) -> dict[str, int | None]:
    """Return by what a loader's sampler and workers are seeded, ``None`` where that is not known."""
    keywords = getattr(loader.worker_init_fn, 'keywords', {})
    return dict(sampler=getattr(sampler_of(loader), 'seed', None), workers=keywords.get('seed'))


def set_seeds(loader: DataLoader, seeds: dict[str, int | None]) -> bool:
    """Seed a loader's sampler and workers as another's were.

    Returns:
        Whether that changed anything.
    """
    changed = {name: seed for name, seed in seeds.items() if seed is not None and seed != seeds_of(loader)[name]}
    if 'sampler' in changed and hasattr(sampler_of(loader), 'seed'):
        sampler_of(loader).seed = changed['sampler']
    init = loader.worker_init_fn
    if 'workers' in changed and isinstance(init, functools.partial):
        loader.worker_init_fn = functools.partial(
            init.func, *init.args, **{**init.keywords, 'seed': changed['workers']}
        )
    return bool(changed)


def begin_anew(loader: DataLoader) -> bool:
    """Let the next iterator of a loader draw from the beginning, by its present seeds, with new workers.

    Returns:
        ``False`` if its sampler does not allow that.
    """
    sampler = sampler_of(loader)
    if hasattr(sampler, 'source2inds'):  # mmdet's, of several sources
        return False
    if isinstance(sampler, InfiniteSampler):
        sampler.indices = sampler._indices_of_rank()
    loader._iterator = None  # of persistent workers
    return True

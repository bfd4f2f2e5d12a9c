"""Random-number states in the checkpoint, where mmengine does not save them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from kddense.random_state import get_random_state, set_random_state
from kddense.registry import HOOKS

from .added_hook import AddedHook
from .loader_workers import (
    RestoringInit,
    TellingCollate,
    Told,
    begin_anew,
    has_persistent_workers,
    heard_in,
    seeds_of,
    set_seeds,
)

KEY = 'random_state'


@HOOKS.register_module()
class RandomStateHook(AddedHook):
    """Makes a resumed run continue bit for bit: keeps each process's random-number states in the checkpoints.

    Validation is run on a copy of the streams, so that a checkpoint saved before it and one saved after it go on alike.
    Workers of the training's loader are seeded as before, with a seed in the config or without. Those that outlive an epoch
    (``persistent_workers``) tell with each batch where their streams are, and go on from there. In iteration-based loops
    mmengine draws all batches of before again, and so does the whole stream of each worker. The numbers of a run that is not
    resumed are those without this hook.

    What it cannot restore it names in the log when a training starts: persistent workers whose batches are no dicts, and,
    without a seed in the config, iteration-based loops with a sampler or a ``worker_init_fn`` that cannot be seeded again.
    What transforms remember besides random numbers (mmdet's ``CachedMosaic``) starts afresh.

    Example:
        >>> default_hooks = dict(random_state=dict(type='kddense.RandomStateHook'))
    """

    # After every hook that may draw numbers, before the CheckpointHook.
    priority = 'LOW'

    def __init__(self) -> None:
        self._gathered: list[dict[str, Any]] | None = None
        self._resumed: dict[str, Any] | None = None
        self._seeds: dict[str, int | None] = {}
        self._before_validation: dict[str, Any] | None = None
        # States of persistent workers: as last heard of, and as they were when the epoch began.
        self._workers: list[Any] | None = None
        self._workers_before: list[Any] | None = None
        self._in_epoch = False
        self._own: dict[str, Any] = {}  # what the loader had before its workers were started in another way

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop) and has_persistent_workers(loop.dataloader):
            self._listen(loop.dataloader)
        if self._resumed is None:
            _warn_of_unseeded(runner)
            return
        state, self._resumed = self._resumed, None
        seeds_differ = set_seeds(loop.dataloader, self._seeds)
        if not isinstance(loop, IterBasedTrainLoop):
            set_random_state(state)
            return
        if seeds_differ and loop.dataloader.num_workers > 0:  # they drew the first batches by other seeds
            if begin_anew(loop.dataloader):
                loop.dataloader_iterator = type(loop.dataloader_iterator)(loop.dataloader)
            else:
                _warn('the sampler cannot be seeded again: the run goes on, but not bit for bit; set randomness.seed')
        # The loop is about to draw the batches of before again, to skip them; the streams continue after those.
        loop.dataloader_iterator = _ThenCall(loop.dataloader_iterator, loop.iter, lambda: set_random_state(state))

    def before_train_epoch(self, runner: Runner) -> None:
        self._workers_before = list(self._workers) if self._workers else None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._gathered = None
        self._in_epoch = True
        while self._own:  # workers that start later start as ever
            setattr(runner.train_dataloader, *self._own.popitem())
        self.after_skipped_batch(runner, data_batch)

    def after_skipped_batch(self, runner: Runner, data_batch: Any) -> None:
        """Note where the worker is that made a batch."""
        if self._workers is None:
            return
        heard = heard_in(data_batch)
        if heard is None:
            _warn('persistent workers whose batches are no dicts: resuming this run will not be bit for bit')
            self._workers = None
        else:
            self._workers[heard[0]] = heard[1]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Gather the states of all processes where a checkpoint is due: only the first process will be asked for it."""
        if self._checkpoint_is_due(runner):
            self._gather()

    def after_train_epoch(self, runner: Runner) -> None:
        self._in_epoch = False
        self._gather()

    def before_val(self, runner: Runner) -> None:
        self._before_validation = get_random_state()
        self._gather()  # for the checkpoint of the best metric

    def after_val(self, runner: Runner) -> None:
        if self._before_validation is not None:
            set_random_state(self._before_validation)
            self._before_validation = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        states = self._gathered or [self._own_state()]
        checkpoint[KEY] = dict(states=states, seeds=seeds_of(runner.train_dataloader))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not runner._resume:
            return
        saved = checkpoint.get(KEY)
        if saved is None:
            _warn('the checkpoint keeps no random-number states: the run goes on, but not bit for bit')
            return
        if get_rank() >= len(saved['states']):
            _warn('the checkpoint is of a run with fewer processes: random numbers start afresh')
            return
        self._resumed = saved['states'][get_rank()]
        self._seeds = saved.get('seeds') or dict(sampler=saved.get('sampler_seed'))

    def _listen(self, loader: Any) -> None:
        """Let persistent workers, which have not started, tell of themselves; and go on where they were."""
        loader.collate_fn = TellingCollate(loader.collate_fn)
        self._workers = [None] * loader.num_workers
        if self._resumed is None:
            return
        states = self._resumed.get('workers')
        if states is None or len(states) != loader.num_workers:
            _warn('the checkpoint does not tell of as many persistent workers: the run goes on, but not bit for bit')
            return
        set_seeds(loader, self._seeds)
        self._workers = list(states)
        self._own = dict(worker_init_fn=loader.worker_init_fn, generator=loader.generator)
        loader.worker_init_fn = RestoringInit(loader.worker_init_fn, states)
        loader.generator = torch.Generator()  # starting workers draws a number, which the other run drew long ago

    def _own_state(self) -> dict[str, Any]:
        """Return this process's streams, and its workers' at the beginning of the epoch that will be resumed."""
        state = get_random_state()
        workers = self._workers_before if self._in_epoch else self._workers
        if workers is not None:
            state['workers'] = [one.state() if isinstance(one, Told) else one for one in workers]
        return state

    def _gather(self) -> None:
        self._gathered = all_gather_object(self._own_state())

    def _checkpoint_is_due(self, runner: Runner) -> bool:
        return any(
            self.every_n_train_iters(runner, hook.interval, hook.save_begin) or self.is_last_train_iter(runner)
            for hook in runner.hooks
            if isinstance(hook, CheckpointHook) and not hook.by_epoch and hook.interval > 0
        )


def _warn_of_unseeded(runner: Runner) -> None:
    """Say so where a run cannot be resumed bit for bit, before it begins."""
    loader = runner.train_dataloader
    without_seed = runner._randomness_cfg.get('seed') is None
    if not (without_seed and isinstance(runner.train_loop, IterBasedTrainLoop) and loader.num_workers > 0):
        return
    unknown = [name for name, seed in seeds_of(loader).items() if seed is None]
    if unknown:
        names = ' and '.join(unknown)
        _warn(f'the seed of {names} is not known: resuming this run will not be bit for bit; set randomness.seed')


def _warn(text: str) -> None:
    print_log(f'RandomStateHook: {text}', 'current', 30)


class _ThenCall:
    """Passes ``count`` items of an iterator on, and calls ``function`` before the next one is drawn."""

    def __init__(self, iterator: Iterator[Any], count: int, function: Callable[[], None]) -> None:
        self._iterator = iterator
        self._left = count
        self._function = function

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._left == 0:
            self._function()
        self._left -= 1
        return next(self._iterator)

    def skip_iter(self, count: int) -> None:
        """Pass over batches, as the loop of onedl-mmengine asks: by drawing them, which moves the workers' streams too."""
        for _ in range(count):
            next(self)

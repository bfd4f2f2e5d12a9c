"""Random-number states in the checkpoint, where mmengine does not save them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop, Runner

from kddense.random_state import get_random_state, set_random_state
from kddense.registry import HOOKS

from .added_hook import AddedHook

KEY = 'random_state'


@HOOKS.register_module()
class RandomStateHook(AddedHook):
    """Makes a resumed run continue bit for bit: keeps each process's random-number states in the checkpoints.

    Validation is run on a copy of the streams, so that a checkpoint saved before it and one saved after it go on alike.
    Loader workers must be absent or start anew each epoch (mmengine seeds them by their number), which is the default
    unless ``persistent_workers`` is set.

    Example:
        >>> default_hooks = dict(random_state=dict(type='kddense.RandomStateHook'))
    """

    # After every hook that may draw numbers, before the CheckpointHook.
    priority = 'LOW'

    def __init__(self) -> None:
        self._gathered: list[dict[str, Any]] | None = None
        self._resumed: dict[str, Any] | None = None
        self._before_validation: dict[str, Any] | None = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._gathered = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Gather the states of all processes where a checkpoint is due: only the first process will be asked for it."""
        if self._checkpoint_is_due(runner):
            self._gather()

    def after_train_epoch(self, runner: Runner) -> None:
        self._gather()

    def before_val(self, runner: Runner) -> None:
        self._before_validation = get_random_state()
        self._gather()  # for the checkpoint of the best metric

    def after_val(self, runner: Runner) -> None:
        if self._before_validation is not None:
            set_random_state(self._before_validation)
            self._before_validation = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        states = self._gathered or [get_random_state()]
        checkpoint[KEY] = dict(states=states, sampler_seed=getattr(runner.train_dataloader.sampler, 'seed', None))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not runner._resume:
            return
        if KEY not in checkpoint:
            print_log(
                'the checkpoint keeps no random-number states: the run goes on, but not bit for bit', 'current', 30
            )
            return
        states = checkpoint[KEY]['states']
        if get_rank() >= len(states):
            print_log('the checkpoint is of a run with fewer processes: random numbers start afresh', 'current', 30)
            return
        self._resumed = states[get_rank()]
        sampler = runner.train_dataloader.sampler
        if checkpoint[KEY]['sampler_seed'] is not None and hasattr(sampler, 'seed'):
            sampler.seed = checkpoint[KEY]['sampler_seed']

    def before_train(self, runner: Runner) -> None:
        if self._resumed is None:
            return
        state, self._resumed = self._resumed, None
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):
            # The loop is about to draw the batches of before again, to skip them; the streams continue after those.
            loop.dataloader_iterator = _then_call(loop.dataloader_iterator, loop.iter, lambda: set_random_state(state))
        else:
            set_random_state(state)

    def _gather(self) -> None:
        self._gathered = all_gather_object(get_random_state())

    def _checkpoint_is_due(self, runner: Runner) -> bool:
        return any(
            self.every_n_train_iters(runner, hook.interval, hook.save_begin) or self.is_last_train_iter(runner)
            for hook in runner.hooks
            if isinstance(hook, CheckpointHook) and not hook.by_epoch and hook.interval > 0
        )


def _then_call(iterator: Iterator[Any], count: int, function: Callable[[], None]) -> Iterator[Any]:
    """Pass ``count`` items on, then call ``function`` before the next one is drawn."""
    for _ in range(count):
        yield next(iterator)
    function()
    yield from iterator

"""Ctrl-C ends a training between two steps, with a checkpoint that goes on from there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from .checkpoint_hook import WholeCheckpointHook
from .joint_optim import wrappers_in

ASKED = b'\nCtrl-C: the training ends after this step with a checkpoint; once more ends it at once\n'


class Interruption(Hook):
    """A hook that ends a training when it is asked to.

    The checkpoint continues bit for bit with :class:`kddense.RandomStateHook`, also from the middle of an epoch. What is
    under way is brought to its end before: the step, the steps whose gradients are accumulated, a validation.

    Attributes:
        checkpoint: What was saved, if anything.

    Example:
        >>> interruption = Interruption()
        >>> with interruption.listening():
        ...     runner = Runner.from_cfg(config)
        ...     runner.register_hook(interruption)
        ...     runner.train()  # raises KeyboardInterrupt
    """

    priority = 'LOWEST'  # after all that belongs to a step

    def __init__(self) -> None:
        self.checkpoint: Path | None = None
        self._is_asked = False
        self._process = os.getpid()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C as a request while a block runs, in the main thread; loader workers that it starts ignore it."""
        before = signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _ask(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:  # a worker, which the terminal asks as well
            return
        if self._is_asked:
            raise KeyboardInterrupt
        self._is_asked = True
        os.write(2, ASKED)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if self._is_asked and _weights_are_updated(runner.optim_wrapper) and not _validation_is_next(runner):
            self._end(runner, runner.iter + 1)

    def after_val(self, runner: Runner) -> None:
        if self._is_asked and runner.iter < runner.max_iters:
            self._end(runner, runner.iter)

    def _end(self, runner: Runner, iteration: int) -> None:
        hook = next((one for one in runner.hooks if isinstance(one, WholeCheckpointHook)), None)
        if hook is not None and _can_go_on(runner.train_loop):
            self.checkpoint = hook.save_interrupted(runner, iteration)
        raise KeyboardInterrupt


def _weights_are_updated(optim_wrapper: Any) -> bool:
    """Tell whether no gradients wait for those of more steps, which no checkpoint keeps."""
    return all(one.should_update() for one in wrappers_in(optim_wrapper))


def _validation_is_next(runner: Runner) -> bool:
    """Tell whether an iteration-based loop is about to validate, which a run resumed from here would leave out."""
    loop: Any = runner.train_loop
    done = runner.iter + 1
    if done == loop.max_iters:
        return True  # and then it is at its end
    if not isinstance(loop, IterBasedTrainLoop) or runner.val_loop is None:
        return False
    return done >= loop.val_begin and done % loop.val_interval == 0


def _can_go_on(loop: Any) -> bool:
    """Tell whether a loop is one that can be entered in the middle, which others need not be."""
    return isinstance(loop, IterBasedTrainLoop) or type(loop).run_epoch is EpochBasedTrainLoop.run_epoch

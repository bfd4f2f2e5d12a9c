"""When a training ends that was asked to: between two steps, and never where a resumed one would leave something out."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from kddense.training import Interruption, WholeCheckpointHook


class Saving(WholeCheckpointHook):
    """A hook for checkpoints that only notes what it is asked for."""

    def __init__(self, folder):
        super().__init__()
        self.out_dir = folder
        self.saved = []

    def save_interrupted(self, runner, iteration):
        self.saved.append(iteration)
        return self.out_dir / 'interrupted.pth'


class Optimiser:
    def __init__(self, updates=True):
        self.updates = updates

    def should_update(self):
        return self.updates


class Several(OptimWrapperDict):
    def __init__(self, *wrappers):
        self.optim_wrappers = {str(number): one for number, one in enumerate(wrappers)}


def loop(kind=IterBasedTrainLoop, **values):
    made = kind.__new__(kind)
    made._max_iters, made.val_begin, made.val_interval = 12, 1, 4
    vars(made).update(values)
    return made


@pytest.fixture
def runner(tmp_path):
    """A runner in its sixth iteration, with a validation after each fourth."""
    hooks = [Saving(tmp_path)]
    return SimpleNamespace(
        hooks=hooks, iter=5, max_iters=12, train_loop=loop(), val_loop=object(), optim_wrapper=Optimiser()
    )


@pytest.fixture
def asked():
    interruption = Interruption()
    with interruption.listening():
        os.kill(os.getpid(), signal.SIGINT)
        yield interruption


def ends(interruption, runner):
    """Tell after which iteration it ends, ``None`` if it does not yet."""
    try:
        interruption.after_train_iter(runner, 0)
    except KeyboardInterrupt:
        return runner.hooks[0].saved
    return None


def test_it_ends_after_the_step_with_a_checkpoint(asked, runner, tmp_path):
    assert ends(asked, runner) == [6]
    assert asked.checkpoint == tmp_path / 'interrupted.pth'


def test_nobody_asked(runner):
    interruption = Interruption()
    assert ends(interruption, runner) is None
    interruption.after_val(runner)


def test_a_second_time_it_ends_at_once(asked):
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_worker_that_the_terminal_asks_too_goes_on(runner, monkeypatch):
    interruption = Interruption()
    with interruption.listening():
        monkeypatch.setattr(os, 'getpid', lambda: -1)  # as in a process that was forked
        interruption._ask(signal.SIGINT, None)
    assert ends(interruption, runner) is None


@pytest.mark.parametrize('wrapper', [Optimiser(False), Several(Optimiser(), Optimiser(False))], ids=['one', 'several'])
def test_gradients_that_wait_are_used_first(asked, runner, wrapper):
    runner.optim_wrapper = wrapper
    assert ends(asked, runner) is None


def test_a_validation_that_is_due_comes_first(asked, runner):
    runner.iter = 7
    assert ends(asked, runner) is None
    runner.iter = 8  # the loop counts before it validates
    with pytest.raises(KeyboardInterrupt):
        asked.after_val(runner)
    assert runner.hooks[0].saved == [8]


def test_the_last_step_ends_as_ever(asked, runner):
    runner.iter = 11
    assert ends(asked, runner) is None
    runner.iter = 12
    asked.after_val(runner)


def test_a_loop_that_cannot_be_entered_in_its_middle_goes_on_from_what_is_there(asked, runner):
    class Own(EpochBasedTrainLoop):
        def run_epoch(self):
            pass

    runner.train_loop = loop(Own)
    assert ends(asked, runner) == []
    assert asked.checkpoint is None

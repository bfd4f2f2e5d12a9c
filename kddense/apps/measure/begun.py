"""A run that has begun, for steps that are taken without it: objectives know its data set, schedules its length."""

from __future__ import annotations

from typing import Any

from mmengine.runner import Runner
from torch.utils.data import DataLoader

from kddense.training.settings import steps_of


def begin(runner: Runner, loader: DataLoader[Any]) -> int:
    """Tell the model what a training tells it before its first step, and initialise its weights; no hook is called.

    Args:
        runner: Whose model is about to take steps.
        loader: Its training data.

    Returns:
        How many iterations the whole run has.
    """
    steps, unit = steps_of(runner.cfg)
    iterations = steps if unit == 'iterations' else steps * len(loader)
    runner.message_hub.update_info('cfg', runner.cfg.pretty_text)
    runner.message_hub.update_info('max_iters', iterations)
    runner.model.init_weights()
    return iterations

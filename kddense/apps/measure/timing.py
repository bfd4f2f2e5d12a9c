"""Step times of several configs, taken in turns on one machine, so that its noise falls on all of them alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from kddense.pretrained import untrained, without_pretrained
from kddense.report.costs import timed

from .begun import begin, endless, with_added_images
from .options import read_with

Step = Callable[[float], None]


def step_times(
    configs: Sequence[str], work_dir: Path, options: Mapping[str, Any], channels_last: bool = False, rounds: int = 8
) -> dict[str, Any]:
    """Time whole training steps, loading of images included, interleaved; weights do not matter and none are loaded.

    Images without labels that a hook adds are part of a step. The rounds are spread evenly over the run, as what a method
    costs may change with its schedule.

    Args:
        configs: The plain student's first.
        work_dir: For what mmengine's runners write.
        options: Changes to every config.
        channels_last: Whether students are in the channels-last memory format.
        rounds: Each times one step of every config; one round more comes first and is not counted.

    Returns:
        ``seconds``: the median step of each config; ``ratio``: the time of all its steps divided by that of the plain
        student's; ``rounds``.
    """
    steps = {config: _stepper(config, work_dir, options, channels_last) for config in configs}
    times: dict[str, list[float]] = {config: [] for config in configs}
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    for index in range(rounds + 1):
        for config, step in steps.items():
            progress = (max(index, 1) - 0.5) / rounds
            seconds = timed(partial(step, progress), device)
            if index:
                times[config].append(seconds)
    plain = sum(times[configs[0]])
    return {
        'seconds': {config: round(statistics.median(values), 4) for config, values in times.items()},
        'ratio': {config: round(sum(values) / plain, 3) for config, values in times.items()},
        'rounds': rounds,
    }


def steps_that_fit(steps: int, ratio: float, unit: str) -> int:
    """Return how many plain steps take the time of ``steps`` distilled ones.

    Epochs are rounded up, in the plain student's favour; iterations down.
    """
    fit = round(steps * max(ratio, 1.0), 6)  # 50 times 1.1 is 55 and not a little more
    return math.floor(fit) if unit == 'iterations' else math.ceil(fit)


def _stepper(path: str, work_dir: Path, options: Mapping[str, Any], channels_last: bool) -> Step:
    """Return what takes one step of a config, as it is at that part (0 to 1) of its run."""
    config = read_with(path, options)
    config.model = without_pretrained(config.model)  # random weights take the same time, and need no file
    if config.model.get('teacher'):
        config.model.teacher = untrained(config.model.teacher)
    config.visualizer = None  # configs name theirs alike, and mmengine keeps the first of a name, with its folder
    config.work_dir = str(work_dir / 'timing' / Path(path).stem)
    config.experiment_name = f'timing_{Path(path).stem}_{len(list(Path(work_dir).glob("timing/*")))}'
    runner = Runner.from_cfg(config)
    loader = runner.build_dataloader(config.train_dataloader)
    batches = with_added_images(runner, endless(loader))
    iterations = begin(runner, loader)
    if channels_last:
        runner.model.to(memory_format=torch.channels_last)
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    wrapper.initialize_count_status(runner.model, 0, 10**9)

    def step(progress: float) -> None:
        hub = MessageHub.get_current_instance()  # where schedules look, as a run's loop is not there
        hub.update_info('max_iters', iterations)
        hub.update_info('iter', int(progress * iterations))
        runner.model.train()
        runner.model.train_step(next(batches), optim_wrapper=wrapper)

    return step

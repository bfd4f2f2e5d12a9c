"""Stages of a training: which losses count, and which parts rest, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from kddense.distiller import Distiller
from kddense.objectives.schedules import WeightSchedule
from kddense.options import check_pattern, no_such_key
from kddense.registry import HOOKS

from .joint_optim import wrappers_in
from .rest import RestHook

KEYS = ('until', 'losses', 'rest', 'fresh_optimizer')


@HOOKS.register_module()
class StagesHook(RestHook):
    """Divides a training into stages: FitNets' hint first and then the task, a trunk that rests once it has learnt.

    An objective that does not count in a stage is not computed, nor is its teacher asked; its log has zeros. The task's
    losses are multiplied by 0, and stay in the graph. Weights and their schedules hold within the stages. Parts at rest: see
    :class:`RestHook`.

    Args:
        stages: In order. Each may have ``until``, the iteration (a float: the share of the training) at which the next one
            begins, which all but the last need; ``losses``, what counts: names of objectives, and ``'task'`` for the
            student's own losses, all by default; ``rest``, what rests: a regular expression of whole paths in the student;
            ``fresh_optimizer``, whether the optimiser forgets its moments as the stage begins, as in a training of its own.
            Adam divides by a mean of squared gradients of the last 1000 steps: after a loss of great gradients has ended,
            steps stay small for as long.

    Example:
        >>> default_hooks = dict(stages=dict(type='kddense.StagesHook', stages=[
        ...     dict(until=0.3, losses=['hint'], rest='neck|.*head'), dict(losses=['task'])]))
    """

    def __init__(self, stages: Sequence[Mapping[str, Any]]) -> None:
        super().__init__({})
        self.losses: list[tuple[WeightSchedule, frozenset[str] | None]] = []
        self.fresh: list[WeightSchedule] = []
        start: int | float = 0
        for number, stage in enumerate(stages):
            where = f'stages[{number}] of the StagesHook'
            window = _window(stage, start, number == len(stages) - 1, where)
            start = window.stop or start
            self.losses.append((window, _names(stage.get('losses'), where)))
            if stage.get('rest') is not None:
                self.windows.append((_text(stage['rest'], where), window))
            if _yes_or_no(stage.get('fresh_optimizer', False), where):
                self.fresh.append(window)

    def before_train(self, runner: Runner) -> None:
        """Find the parts, and tell the distiller what counts when."""
        super().before_train(runner)
        for window, _ in self.losses:
            window.check_length(runner.max_iters)
        if all(names is None for _, names in self.losses):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not isinstance(model, Distiller):
            raise ValueError('the StagesHook has losses, of which only a kddense.Distiller can leave some out')
        model.follow_stages(self.losses)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Let parts rest, and the optimiser forget."""
        super().before_train_iter(runner, batch_idx, data_batch)
        if any(_begins(window, runner) for window in self.fresh):
            for wrapper in wrappers_in(runner.optim_wrapper):
                wrapper.optimizer.state.clear()


def _begins(window: WeightSchedule, runner: Runner) -> bool:
    now, before = (window(iteration, runner.max_iters) > 0 for iteration in (runner.iter, runner.iter - 1))
    return now and not before


def _window(stage: Mapping[str, Any], start: int | float, is_last: bool, where: str) -> WeightSchedule:
    for key in stage:
        if key not in KEYS:
            raise ValueError(f'{where}{no_such_key(key, KEYS)}')
    until = stage.get('until')
    if until is None and not is_last:
        raise ValueError(f'{where} needs the key until: another stage follows')
    return WeightSchedule(1.0, start=start, stop=until, where=where)


def _names(losses: Any, where: str) -> frozenset[str] | None:
    if losses is None:
        return None
    if not isinstance(losses, (list, tuple)) or not losses or not all(isinstance(one, str) for one in losses):
        raise ValueError(f"{where}.losses must be a list of names of objectives and 'task', got {losses!r}")
    return frozenset(losses)


def _yes_or_no(fresh: Any, where: str) -> bool:
    if not isinstance(fresh, bool):
        raise ValueError(f'{where}.fresh_optimizer must be True or False, got {fresh!r}')
    return fresh


def _text(rest: Any, where: str) -> str:
    if not isinstance(rest, str):
        raise ValueError(f'{where}.rest must be a regular expression of paths in the student, got {rest!r}')
    check_pattern(rest, f'{where}.rest')
    return rest

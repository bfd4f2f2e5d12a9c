"""Parts of a student that rest for a while: the stages of FitNets, FSP and AB, frozen trunks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.runner import Runner
from torch import nn

from kddense.objectives.schedules import WeightSchedule
from kddense.options import check_pattern
from kddense.registry import HOOKS
from kddense.taps import nearest

from .added_hook import AddedHook, student_of
from .joint_optim import wrappers_in
from .strategies import refuse_copies


@HOOKS.register_module()
class RestHook(AddedHook):
    """Lets parts of the student rest for a part of the training: neither weights nor statistics of their norms change.

    A part at rest still runs, in eval mode, and gradients flow through it. Its weights get none: no weight decay and no
    momentum moves them, and a limit on the norm of gradients does not count them. Every weight stays in the graph, so that
    several processes agree. With the weights of the losses by phases (``weight`` of an objective, ``task_weights`` of the
    distiller) this makes stages of a training.

    Args:
        parts: When each rests: by a regular expression of whole paths in the student, ``start`` and ``stop`` as in
            :class:`kddense.objectives.schedules.WeightSchedule`: iterations if ints, shares of the training if floats.

    Example:
        >>> default_hooks = dict(rest=dict(type='kddense.RestHook', parts={'neck|.*head': dict(stop=0.3)}))
    """

    priority = 'LOWEST'  # after hooks that set modes

    def __init__(self, parts: Mapping[str, Mapping[str, Any]]) -> None:
        self.windows = [(pattern, _window(pattern, one)) for pattern, one in parts.items()]
        self._modules: dict[str, list[nn.Module]] = {}
        self._resting: frozenset[str] = frozenset()
        self._weights: list[nn.Parameter] = []
        self._handles: list[Any] = []

    def before_run(self, runner: Runner) -> None:
        super().before_run(runner)
        refuse_copies(self, runner.model)

    def before_train(self, runner: Runner) -> None:
        student = student_of(runner.model)
        modules = dict(student.named_modules())
        for pattern, window in self.windows:
            window.check_length(runner.max_iters)
            self._modules[pattern] = [one for path, one in modules.items() if path and re.fullmatch(pattern, path)]
            if not self._modules[pattern]:
                raise ValueError(f"the RestHook finds no part '{pattern}' in the student{nearest(pattern, modules)}")
        for wrapper in wrappers_in(runner.optim_wrapper):
            wrapper.optimizer.register_step_pre_hook(self._forget_gradients)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        now = {pattern for pattern, one in self.windows if one(runner.iter, runner.max_iters) > 0}
        if now != self._resting:
            self._change(frozenset(now), runner)
        for pattern in self._resting:
            for module in self._modules[pattern]:
                module.eval()

    def after_train(self, runner: Runner) -> None:
        self._change(frozenset(), runner)

    def _change(self, resting: frozenset[str], runner: Runner) -> None:
        """Wake all parts, in their own modes again, and let others rest."""
        if self._resting:
            student_of(runner.model).train()
        for handle in self._handles:
            handle.remove()
        self._resting = resting
        modules = [module for pattern in sorted(resting) for module in self._modules[pattern]]
        weights = {id(one): one for module in modules for one in module.parameters() if one.requires_grad}
        self._weights = list(weights.values())
        self._handles = [weight.register_hook(torch.zeros_like) for weight in self._weights]

    def _forget_gradients(self, *_: Any) -> None:
        """Before the optimiser steps: weights without a gradient are left alone."""
        for weight in self._weights:
            weight.grad = None


def _window(pattern: str, window: Mapping[str, Any]) -> WeightSchedule:
    where = f"parts['{pattern}'] of the RestHook"
    check_pattern(pattern, 'parts of the RestHook')
    unknown = set(window) - {'start', 'stop'}
    if unknown:
        raise ValueError(f'{where} has no {", ".join(sorted(unknown))}, only start and stop')
    return WeightSchedule(1.0, **window, where=where)

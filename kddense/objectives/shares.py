"""Weights that set themselves: by how an objective's gradient stands to the task's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from torch import Tensor, nn

from kddense.taps import tensors_of

from .schedules import WeightSchedule, build_schedule

EVERY = 50
FEATURES = 'backbone'
OWN_KEYS = ('every', 'on', 'stop_below', 'patience')
PATIENCE = 3
HALF = 2.0**10  # gradients of float16 features are taken of losses so much larger, which their ratio does not see


class Measuring(nn.Module):
    """What measures an objective's gradient every so many iterations.

    Args:
        every: How many iterations lie between measurements.
        on: The place in the student whose values are the shared features.
    """

    def __init__(self, every: int = EVERY, on: str = FEATURES) -> None:
        super().__init__()
        self.every = every
        self.on = on
        self.is_held = False
        self._told = False

    def tell_if_unreached(self, name: str, total: Tensor | None, own: Sequence[Tensor | None]) -> None:
        """Log, once, that an objective's loss does not depend on the features, so that its gradient is never measured."""
        depends = total is None or not total.requires_grad or any(one is not None for one in own)
        if depends or not own or self._told:
            return
        self._told = True
        print_log(
            f"objectives.{name}.weight.on: the loss does not depend on '{self.on}', so its gradient there is never measured "
            f'and the weight never set; name a place that comes before what it compares',
            logger='current',
            level=30,
        )


class GradientShare(Measuring):
    """Holds the norm of an objective's gradient at a share of the task's, both by the features that the two share.

    Every so many iterations both gradients are measured, of that iteration's losses, and what the objective's losses are
    multiplied by is set so that their ratio is the share. It stays until the next measurement, travels in the checkpoint,
    and is the same in all processes: squares are summed over them. A measurement in which one of the two gradients is 0
    or not finite changes nothing; before the first other one, the objective is off.

    Args:
        every: How many iterations lie between measurements.
        on: The place in the student whose values are the shared features; gradients by all of them together.
    """

    ratio: Tensor

    def __init__(self, every: int = EVERY, on: str = FEATURES) -> None:
        super().__init__(every, on)
        self._is_known = False
        self.register_buffer('ratio', torch.zeros(()))  # norm of the task's gradient by that of the objective's

    def is_due(self, iteration: int) -> bool:
        """Tell whether to measure in an iteration: each so many, and as long as nothing is known."""
        if self.is_held:
            return False
        self._is_known = self._is_known or bool(self.ratio > 0)
        return not self._is_known or iteration % self.every == 0

    @torch.no_grad()
    def set(self, own: Tensor, task: Tensor) -> None:
        """Take over a measurement.

        Args:
            own: Square of the norm of the objective's gradient in this process, a scalar.
            task: That of the task.
        """
        both = torch.stack([own, task]).double()
        all_reduce(both)
        ratio = (both[1] / both[0]).sqrt().to(self.ratio)
        usable = torch.isfinite(ratio) & (ratio > 0)
        self.ratio.copy_(torch.where(usable, ratio, self.ratio))


class AgreementStop(Measuring):
    """Ends an objective when it no longer helps: its gradient no longer points where the task's does.

    Every so many iterations the cosine of the two gradients is measured, by the features that they share. Once it was below
    a threshold so many times in a row, the objective is off for the rest of the training. That is in the checkpoint, and the
    same in all processes. Where one of the gradients is 0 or not finite, nothing is counted.

    Args:
        below: The threshold, from -1 to 1.
        patience: How many measurements in a row.
        every: How many iterations lie between measurements.
        on: The place in the student whose values are the shared features.
    """

    times: Tensor

    def __init__(self, below: float, patience: int = PATIENCE, every: int = EVERY, on: str = FEATURES) -> None:
        super().__init__(every, on)
        self.below = below
        self.patience = patience
        self.register_buffer('times', torch.zeros((), dtype=torch.long))
        self._has_stopped: bool | None = None  # not known: to look waits for the GPU

    def has_stopped(self) -> bool:
        """Tell whether the objective is off for good."""
        if self._has_stopped is None:
            self._has_stopped = bool(self.times >= self.patience)
        return self._has_stopped

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._has_stopped = None

    def is_due(self, iteration: int) -> bool:
        """Tell whether to measure in an iteration."""
        return not self.is_held and iteration % self.every == 0

    @torch.no_grad()
    def note(self, own: Sequence[Tensor | None], task: Sequence[Tensor | None]) -> Tensor:
        """Count a measurement; returns the cosine.

        Args:
            own: The objective's gradients by the shared features, in this process.
            task: The task's.
        """
        found = zip(own, task, strict=True)
        pairs = [(one.float(), other.float()) for one, other in found if one is not None and other is not None]
        products = [torch.stack([(a * b).sum(), a.square().sum(), b.square().sum()]) for a, b in pairs]
        sums = torch.stack(products).sum(0).double() if products else torch.zeros(3, dtype=torch.double)
        all_reduce(sums)
        cosine = sums[0] / (sums[1] * sums[2]).sqrt()
        counted = torch.where(cosine < self.below, self.times + 1, torch.zeros_like(self.times))
        self.times.copy_(torch.where(torch.isfinite(cosine), counted, self.times))
        self._has_stopped = None
        return cosine.float()


class TaskGradient:
    """The gradient of the student's own losses by shared features, computed once for all objectives that ask.

    Args:
        losses: The student's own losses as they count in this step, by name.
        taps: What was recorded of the student.
    """

    def __init__(self, losses: Mapping[str, Any], taps: Mapping[str, Any]) -> None:
        self.taps = taps
        self._total = sum_of(losses)
        self._found: dict[str, list[Tensor | None]] = {}

    def by(self, on: str) -> list[Tensor | None]:
        """Return it by each of the features."""
        if on not in self._found:
            self._found[on] = gradients_by(self._total, self.features(on))
        return self._found[on]

    def features(self, on: str) -> list[Tensor]:
        """Return the values at a tap by which gradients are taken."""
        return [one for one in tensors_of(self.taps[on]) if one.requires_grad]


def sum_of(losses: Mapping[str, Any], but: Callable[[str], bool] = lambda name: False) -> Tensor | None:
    """Return the sum of losses as mmengine takes it, ``None`` of none."""
    parts = [
        part.mean()
        for name, value in losses.items()
        if 'loss' in name and not but(name)
        for part in (value if isinstance(value, (list, tuple)) else [value])
    ]
    return torch.stack(parts).sum() if parts else None


def gradients_by(total: Tensor | None, features: Sequence[Tensor]) -> list[Tensor | None]:
    """Return a loss's gradients by features, in float32, ``None`` by those that it does not reach; the graph stays."""
    if total is None or not features or not total.requires_grad:
        return [None] * len(features)
    scale = HALF if any(one.dtype == torch.float16 for one in features) else 1.0
    found = torch.autograd.grad(scale * total, features, retain_graph=True, allow_unused=True)
    return [None if one is None else one.float() / scale for one in found]


def square_of(gradients: Sequence[Tensor | None]) -> Tensor:
    """Return the square of the norm of gradients together, a scalar."""
    squares = [one.square().sum() for one in gradients if one is not None]
    return torch.stack(squares).sum() if squares else torch.zeros(())


@contextmanager
def nothing_measured(objectives: nn.Module) -> Iterator[None]:
    """Context manager: weights that set themselves stay as they are; one of which nothing is known yet is its share."""
    found = [one for one in objectives.modules() if isinstance(one, Measuring)]
    unknown = [one for one in found if isinstance(one, GradientShare) and not one.ratio > 0]
    try:
        for one in found:
            one.is_held = True
        for one in unknown:
            one.ratio.fill_(1)
        yield
    finally:
        for one in found:
            one.is_held = False
        for one in unknown:
            one.ratio.zero_()


@dataclass(frozen=True)
class Weight:
    """What a config gives as a weight.

    Attributes:
        schedule: Over the iterations.
        share: What holds it at a share of the task's gradient, if it is a percentage.
        stop: What ends it when it no longer helps, if that is asked for.
    """

    schedule: WeightSchedule
    share: GradientShare | None = None
    stop: AgreementStop | None = None


def build_weight(weight: float | str | Mapping[str, Any] | WeightSchedule) -> Weight:
    """Make of what a config gives as a weight a schedule, and what sets it during the training.

    Args:
        weight: A number; a percentage, ``'10%'``; or a dict of the arguments of :class:`WeightSchedule`, whose ``value`` may
            be one. ``stop_below`` and ``patience`` are those of :class:`AgreementStop`; ``every`` and ``on`` are those of
            what measures.

    Raises:
        ValueError: If it is none of these.
    """
    alone = isinstance(weight, str)
    weight = dict(value=weight) if isinstance(weight, str) else weight
    if not isinstance(weight, Mapping):
        return Weight(build_schedule(weight))
    options = dict(weight)
    measures = isinstance(options.get('value'), str) or 'stop_below' in options
    own = {key: options.pop(key) for key in OWN_KEYS if key in options} if measures else {}
    every, on = own.get('every', EVERY), own.get('on', FEATURES)
    _check_whole('every', every)
    if not isinstance(on, str):
        raise ValueError(f"weight.on must be a place in the student, such as 'backbone', got {on!r}")
    share = None
    if isinstance(options.get('value'), str):
        options['value'] = _percentage(options['value'], alone)
        share = GradientShare(every, on)
    if 'patience' in own and 'stop_below' not in own:
        raise ValueError('weight.patience is how long to wait for weight.stop_below: set that too')
    stop = _stop(own, every, on) if 'stop_below' in own else None
    schedule = build_schedule(options)
    return Weight(schedule) if schedule.is_off else Weight(schedule, share, stop)


def _percentage(text: str, alone: bool) -> float:
    match = re.fullmatch(r'\s*(\d+(?:\.\d*)?)\s*%\s*', text)
    if match is None:
        where, others = ('weight', ', a dict') if alone else ('weight.value', '')
        raise ValueError(f"{where} must be a number{others} or a percentage such as '10%', got {text!r}")
    return float(match[1]) / 100


def _stop(own: Mapping[str, Any], every: int, on: str) -> AgreementStop:
    below, patience = own['stop_below'], own.get('patience', PATIENCE)
    if isinstance(below, bool) or not isinstance(below, (int, float)) or not -1 <= below <= 1:
        raise ValueError(f'weight.stop_below must be a cosine, from -1 to 1, got {below!r}')
    _check_whole('patience', patience)
    return AgreementStop(float(below), patience, every, on)


def _check_whole(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f'weight.{key} must be a whole number of at least 1, got {value!r}')

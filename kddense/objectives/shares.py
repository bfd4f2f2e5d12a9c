"""Weights that set themselves: an objective's gradient as a share of the task's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from kddense.taps import tensors_of

from .schedules import WeightSchedule, build_schedule

EVERY = 50
FEATURES = 'backbone'
OWN_KEYS = ('every', 'on')
HALF = 2.0**10  # gradients of float16 features are taken of losses so much larger, which their ratio does not see


class GradientShare(nn.Module):
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
        super().__init__()
        self.every = every
        self.on = on
        self._is_known = False
        self.register_buffer('ratio', torch.zeros(()))  # norm of the task's gradient by that of the objective's

    def is_due(self, iteration: int) -> bool:
        """Tell whether to measure in an iteration: each so many, and as long as nothing is known."""
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


class TaskGradient:
    """The gradient of the student's own losses by shared features, computed once for all objectives that ask.

    Args:
        losses: The student's own losses as they count in this step, by name.
        taps: What was recorded of the student.
    """

    def __init__(self, losses: Mapping[str, Any], taps: Mapping[str, Any]) -> None:
        self.taps = taps
        self._total = sum_of(losses)
        self._squares: dict[str, Tensor] = {}

    def square(self, on: str) -> Tensor:
        """Return the square of its norm."""
        if on not in self._squares:
            self._squares[on] = gradient_square(self._total, self.features(on))
        return self._squares[on]

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


def gradient_square(total: Tensor | None, features: Sequence[Tensor]) -> Tensor:
    """Return the square of the norm of a loss's gradient by features, a scalar in float32; the graph stays."""
    if total is None or not features or not total.requires_grad:
        return torch.zeros((), device=features[0].device if features else None)
    scale = HALF if any(one.dtype == torch.float16 for one in features) else 1.0
    found = torch.autograd.grad(scale * total, features, retain_graph=True, allow_unused=True)
    squares = [(one.float() / scale).square().sum() for one in found if one is not None]
    return torch.stack(squares).sum() if squares else torch.zeros((), device=features[0].device)


def build_weight(
    weight: float | str | Mapping[str, Any] | WeightSchedule,
) -> tuple[WeightSchedule, GradientShare | None]:
    """Make of what a config gives as a weight a schedule, and of a percentage what holds it.

    Args:
        weight: A number; a percentage, ``'10%'``; or a dict of the arguments of :class:`WeightSchedule`, whose ``value`` may
            be one: then ``every`` and ``on`` are those of :class:`GradientShare`.

    Raises:
        ValueError: If it is none of these.
    """
    written = weight.get('value') if isinstance(weight, Mapping) else weight
    if not isinstance(written, str):
        return build_schedule(weight), None  # type: ignore[arg-type]
    match = re.fullmatch(r'\s*(\d+(?:\.\d*)?)\s*%\s*', written)
    if match is None:
        where, others = ('weight.value', '') if isinstance(weight, Mapping) else ('weight', ', a dict')
        raise ValueError(f"{where} must be a number{others} or a percentage such as '10%', got {written!r}")
    options = dict(weight) if isinstance(weight, Mapping) else {}
    own = {key: options.pop(key) for key in OWN_KEYS if key in options}
    every, on = own.get('every', EVERY), own.get('on', FEATURES)
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f'weight.every must be a whole number of at least 1, got {every!r}')
    if not isinstance(on, str):
        raise ValueError(f"weight.on must be a place in the student, such as 'backbone', got {on!r}")
    schedule = build_schedule({**options, 'value': float(match[1]) / 100})
    return schedule, None if schedule.is_off else GradientShare(every, on)

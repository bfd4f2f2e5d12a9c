"""The weight of an objective as a function of the iteration.

A schedule keeps no state, so a resumed run needs nothing restored. It counts iterations, whichever loop runs; positions
may also be fractions of the whole training, which fit an epoch-based and an iteration-based loop alike.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from mmengine.logging import print_log


@dataclass(frozen=True)
class WeightSchedule:
    """Off, then rising, then falling, then off again; each part may be left out.

    From ``start`` the weight rises linearly from 0 and reaches ``value`` after ``warmup``. It stays there, or decays so
    as to reach ``end_value`` at ``stop`` (at the end of the training if there is no ``stop``). Before ``start``, and
    from ``stop`` on, it is 0.

    ``start``, ``stop`` and ``warmup`` are iterations if they are ints, and fractions of the whole training if they are
    floats from 0 to 1.

    Args:
        value: The full weight, at least 0.
        start: The first iteration that counts.
        stop: The first iteration that no longer counts; None for never.
        warmup: How long the weight rises.
        decay: None, ``'linear'`` or ``'cosine'``.
        end_value: Where the decay ends, at least 0; it may lie above ``value``.
        where: The config key that errors name.

    Raises:
        ValueError: If a number is negative, NaN or infinite, a fraction is above 1, ``decay`` is unknown, ``start``
            does not come before ``stop``, the warm-up ends after it, or ``end_value`` is set without ``decay``.

    Example:
        >>> weight = WeightSchedule(2.0, start=10, warmup=4, decay='linear', stop=0.5)
        >>> [weight(i, max_iterations=40) for i in (9, 10, 12, 14, 17, 20)]
        [0.0, 0.0, 1.0, 2.0, 1.0, 0.0]
    """

    value: float
    start: int | float = 0
    stop: int | float | None = None
    warmup: int | float = 0
    decay: str | None = None
    end_value: float = 0.0
    where: str = field(default='weight', kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ('value', 'end_value'):
            self._check_number(name, getattr(self, name))
        for name in ('start', 'stop', 'warmup'):
            position = getattr(self, name)
            if position is None and name == 'stop':
                continue
            self._check_number(name, position)
            if isinstance(position, float) and position > 1:
                raise ValueError(
                    f'{self.where}.{name} is a float, thus a fraction of the training, and must lie between 0 and 1, '
                    f'got {position}; write an int for iterations'
                )
        if self.decay not in (None, 'linear', 'cosine'):
            raise ValueError(f"{self.where}.decay must be None, 'linear' or 'cosine', got {self.decay!r}")
        if self.stop is not None and self._share_a_unit(self.start, self.stop, self.warmup):
            self._check_order(self.start, self.warmup, self.stop, tolerance=1e-9)
        if self.decay is None and self.end_value:
            raise ValueError(f"{self.where}.end_value is where a decay ends: set decay to 'linear' or 'cosine'")

    def __call__(self, iteration: int, max_iterations: int | None = None) -> float:
        """Return the weight at an iteration, counted from 0.

        Args:
            iteration: The current iteration.
            max_iterations: How many the whole training has. Needed by fractions, and by a decay without ``stop``.

        Raises:
            ValueError: If ``max_iterations`` is needed and missing, or with it ``stop`` turns out to come too early.
        """
        start = self._to_iterations('start', self.start, max_iterations)
        warmup = self._to_iterations('warmup', self.warmup, max_iterations)
        end = stop = None if self.stop is None else self._to_iterations('stop', self.stop, max_iterations)
        if self.decay is not None and end is None:
            end = self._to_iterations('stop', 1.0, max_iterations)
        if stop is not None:
            self._check_order(start, warmup, stop, tolerance=1)  # fractions were rounded
        full = start + warmup
        if iteration < start or (stop is not None and iteration >= stop):
            return 0.0
        if iteration < full:
            return self.value * (iteration - start) / warmup
        if self.decay is None or end is None:
            return float(self.value)
        progress = min((iteration - full) / (end - full), 1.0) if end > full else 1.0
        if self.decay == 'cosine':
            progress = (1 - math.cos(math.pi * progress)) / 2
        return self.value + (self.end_value - self.value) * progress

    @property
    def is_off(self) -> bool:
        """Whether the weight is 0 at every iteration, whatever the length of the training."""
        return (self.value if self.decay is None else max(self.value, self.end_value)) == 0

    def check_length(self, max_iterations: int) -> None:
        """Check, before a run, that the weight is ever above 0 in it, and say so if it does not get as far as it is to.

        Args:
            max_iterations: How many iterations the run has.

        Raises:
            ValueError: If it never is.
        """
        start = self._to_iterations('start', self.start, max_iterations)
        warmup = self._to_iterations('warmup', self.warmup, max_iterations)
        stop = max_iterations if self.stop is None else self._to_iterations('stop', self.stop, max_iterations)
        if start >= min(stop, max_iterations):
            raise ValueError(
                f'{self.where}: from iteration {start} to {stop} of a training of {max_iterations}, which is never'
            )
        for name, position in (('warmup', start + warmup), ('stop', stop)):
            if position > max_iterations:
                text = (
                    f'{self.where}.{name} ends at iteration {position}, after the training, which has {max_iterations}'
                )
                print_log(text, logger='current', level=30)

    @staticmethod
    def _share_a_unit(*positions: int | float) -> bool:
        return len({type(position) for position in positions if position != 0}) <= 1  # 0 is 0 in both

    def _to_iterations(self, name: str, position: int | float, max_iterations: int | None) -> int:
        if isinstance(position, int) or position == 0:
            return int(position)
        if max_iterations is None:
            raise ValueError(
                f'{self.where}.{name} is the fraction {position} of a training whose number of iterations is not '
                'known; write it as an int, in iterations'
            )
        return round(position * max_iterations)

    def _check_number(self, name: str, number: Any) -> None:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise ValueError(f'{self.where}.{name} must be a number, got {number!r}')
        if not (math.isfinite(number) and number >= 0):
            raise ValueError(f'{self.where}.{name} must be finite and at least 0, got {number}')

    def _check_order(self, start: float, warmup: float, stop: float, tolerance: float) -> None:
        if start > stop or (start == stop and not tolerance >= 1):
            raise ValueError(
                f'{self.where}.start must come before stop, got start={start}, stop={stop}: the objective would never be on'
            )
        if start + warmup > stop + tolerance:
            raise ValueError(
                f'{self.where}.warmup must end before stop, got start={start}, warmup={warmup}, stop={stop}'
            )


def build_schedule(weight: float | Mapping[str, Any] | WeightSchedule, where: str = 'weight') -> WeightSchedule:
    """Make a schedule of what a config gives as a weight.

    Args:
        weight: A number for a constant weight, or a dict of the arguments of :class:`WeightSchedule`.
        where: The config key that errors name, such as ``'objectives.hint.weight'``.

    Returns:
        The schedule.

    Raises:
        ValueError: If a key is unknown or ``value`` is missing, or as :class:`WeightSchedule`.

    Example:
        >>> build_schedule(0.5)(iteration=7)
        0.5
        >>> build_schedule(dict(value=0.5, warmup=10))(iteration=5)
        0.25
    """
    if isinstance(weight, WeightSchedule):
        return weight
    if isinstance(weight, (int, float)) and not isinstance(weight, bool):
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f'{where} must be finite and at least 0, got {weight}')
        return WeightSchedule(float(weight), where=where)
    if not isinstance(weight, Mapping):
        raise ValueError(f'{where} must be a number or a dict, got {weight!r}')
    known = [f.name for f in fields(WeightSchedule) if f.name != 'where']
    for key in weight:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f'; did you mean {near[0]!r}?' if near else ''
            raise ValueError(f'{where} has no key {key!r}, only {", ".join(known)}{hint}')
    if 'value' not in weight:
        raise ValueError(f'{where} needs the key value, the full weight')
    return WeightSchedule(**weight, where=where)

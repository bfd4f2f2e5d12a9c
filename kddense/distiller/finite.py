"""Noticing the first loss that is NaN or infinite, without waiting for the GPU in every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

NEVER = torch.iinfo(torch.int64).max


class FiniteCheck:
    """Collects on the device when each loss was first not finite; looks every few steps and before each checkpoint.

    On a CPU, where looking costs nothing, it looks in every step.

    Args:
        every: Steps between two looks on a GPU.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self._names: tuple[str, ...] = ()
        self._first: Tensor | None = None
        self._steps = 0

    def note(self, losses: Mapping[str, Any], iteration: int | None) -> None:
        """Note the losses of the objectives in one step.

        Args:
            losses: All losses by name; those that begin with ``distill.`` are looked at.
            iteration: The iteration, ``None`` if it is not known.

        Raises:
            FloatingPointError: See :meth:`look`.
        """
        names = tuple(name for name in losses if name.startswith('distill.'))
        if not names:
            return
        finite = torch.isfinite(torch.stack([losses[name].detach().float() for name in names]))
        if names != self._names or self._first is None:
            self.look()
            self._names = names
            self._first = torch.full((len(names),), NEVER, device=finite.device)
        at = -1 if iteration is None else iteration
        self._first = torch.where(finite, self._first, self._first.clamp(max=at))
        self._steps += 1
        if not waits(finite.device) or self._steps % self.every == 0:
            self.look()

    def look(self) -> None:
        """Raise a FloatingPointError that names the first losses that were not finite, and when, if there were any."""
        if self._first is None:
            return
        found, self._first = self._first.tolist(), None
        first = min(found)
        if first == NEVER:
            return
        bad = ', '.join(name for name, at in zip(self._names, found, strict=True) if at == first)
        raise FloatingPointError(
            f'{bad} is NaN or infinite at iteration {"unknown" if first < 0 else first}. Lower the learning rate or the '
            'weight of the objective, or add a warm-up to it; checkpoints saved before are untouched'
        )


def waits(device: torch.device) -> bool:
    """Tell whether reading a value from a device waits for what it is still computing."""
    return device.type != 'cpu'

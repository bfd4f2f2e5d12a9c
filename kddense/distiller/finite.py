"""Noticing the first loss that is NaN or infinite, without waiting for the GPU, and keeping what led to it.

**Scheme.** Before each step the check is shown the batch as the data loader gave it, and remembers where the streams of
random numbers are. After it, the losses travel to the CPU on their own. As soon as they have arrived, two steps later at
most, they are looked at; until then the batch is held, on the CPU. On a CPU they are looked at in the step itself.

**What is kept.** The batch, all losses, the iteration, the seed and the random numbers of the first step that went wrong, in
``nonfinite.pth`` beside the log: one file for each start of a run and each process, plain data, at most 256 MB.

**Replay.** ``kddense replay nonfinite.pth --config C --checkpoint P`` takes that step again, with the weights in P.

**Known limits.** The weights are not kept: those of the last checkpoint are older than the step, so a loss that is finite in
the replay points at the weights, and one that is not at the batch. Only losses of objectives (``distill.…``) are looked at;
the student's own are mmengine's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kddense.random_state import get_random_state

from .kept_step import Kept, keep_step


@dataclass
class _Step:
    iteration: int | None
    names: tuple[str, ...]
    values: Tensor
    arrival: Any
    batch: Any
    random_state: Any

    def has_arrived(self) -> bool:
        return self.arrival is None or self.arrival.query()


class FiniteCheck:
    """Looks at the losses of each step when they have arrived on the CPU, and before each checkpoint.

    Args:
        most_pending: How many steps may be unseen on a GPU.

    Attributes:
        last: The losses that were looked at last, by name.
    """

    def __init__(self, most_pending: int = 2) -> None:
        self.most_pending = most_pending
        self.last: dict[str, float] = {}
        self._pending: deque[_Step] = deque()
        self._batch: Any = None
        self._random_state: Any = None

    def begin(self, batch: Any) -> None:
        """Note what a step is given, before anything is done with it."""
        self._batch, self._random_state = batch, get_random_state()

    def note(self, losses: Mapping[str, Any], iteration: int | None) -> None:
        """Note the losses of one step.

        Args:
            losses: All losses by name; those that begin with ``distill.`` are looked at.
            iteration: The iteration, ``None`` if it is not known.

        Raises:
            FloatingPointError: See :meth:`look`.
        """
        scalars = {name: _scalar(value) for name, value in losses.items()}
        if not any(name.startswith('distill.') for name in scalars):
            return
        values = torch.stack(list(scalars.values()))
        arrival = None
        if waits(values.device):
            values, arrival = values.to('cpu', non_blocking=True), torch.cuda.Event()
            arrival.record()
        self._pending.append(_Step(iteration, tuple(scalars), values, arrival, self._batch, self._random_state))
        while self._pending and (len(self._pending) > self.most_pending or self._pending[0].has_arrived()):
            self._look_at(self._pending.popleft())

    def look(self) -> None:
        """Raise a FloatingPointError that names the first losses that were not finite, and when, if there were any."""
        while self._pending:
            self._look_at(self._pending.popleft())

    def _look_at(self, step: _Step) -> None:
        if step.arrival is not None:
            step.arrival.synchronize()
        self.last = dict(zip(step.names, step.values.tolist(), strict=True))
        finite = torch.isfinite(step.values).tolist()
        bad = [name for name, one in zip(step.names, finite, strict=True) if name.startswith('distill.') and not one]
        if not bad:
            return
        self._pending.clear()
        kept = keep_step(Kept(step.iteration, self.last, step.random_state, step.batch))
        raise FloatingPointError(
            f'{", ".join(bad)} is NaN or infinite at iteration '
            f'{"unknown" if step.iteration is None else step.iteration}. Lower the learning rate or the weight of the '
            f'objective, or add a warm-up to it; checkpoints saved before are untouched{kept}'
        )


def _scalar(value: Any) -> Tensor:
    """Return what mmengine would log of a loss, in float32."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    return torch.stack([torch.as_tensor(part).detach().float().mean() for part in parts]).sum()


def waits(device: torch.device) -> bool:
    """Tell whether reading a value from a device waits for what it is still computing."""
    return device.type == 'cuda'

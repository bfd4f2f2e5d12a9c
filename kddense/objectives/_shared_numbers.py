"""Random numbers on which all processes of a training agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.logging import MessageHub
from torch import Tensor


class SharedNumbers:
    """Uniform random numbers for the samples of one step, the same in however many processes the step is taken.

    They depend on the run's seed and on the iteration alone: nothing is sent, no other stream is moved, and a resumed run
    draws them again. Outside a run they are PyTorch's.
    """

    def __init__(self) -> None:
        info = MessageHub.get_current_instance().runtime_info
        is_run = info.get('seed') is not None and 'iter' in info
        self._generator = np.random.default_rng((info['seed'], info['iter'])) if is_run else None

    def draw(self, shape: int | Sequence[int], like: Tensor) -> Tensor:
        """Return numbers from 0 to 1 for samples of this process, with the dtype and device of ``like``.

        The first number of ``shape`` is that of the samples.

        With W processes, sample n of process r is number n·W + r of the batch, as mmengine's samplers deal them out.
        """
        count, *rest = [shape] if isinstance(shape, int) else shape
        if self._generator is None:
            return torch.rand(count, *rest, dtype=like.dtype, device=like.device)
        rank, processes = get_dist_info()
        numbers = self._generator.random((count * processes, *rest))[rank::processes]
        return torch.from_numpy(numbers).to(like)

    def draw_for_all(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return normally distributed numbers that all processes share, with the dtype and device of ``like``."""
        if self._generator is None:
            return torch.randn(*shape, dtype=like.dtype, device=like.device)
        return torch.from_numpy(self._generator.standard_normal(tuple(shape))).to(like)

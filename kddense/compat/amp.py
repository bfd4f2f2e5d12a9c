"""Mixed precision where there is no GPU: what ``--amp`` asks for, in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


def register_amp() -> None:
    """Let ``type='AmpOptimWrapper'``, and with it the stock scripts' ``--amp``, work on a machine without a GPU too."""
    if get_device() == 'cpu':
        OPTIM_WRAPPERS.register_module(name='AmpOptimWrapper', module=CpuAmpOptimWrapper, force=True)


class CpuAmpOptimWrapper(OptimWrapper):
    """Runs the model under bfloat16 autocast on the CPU.

    Args:
        loss_scale: Accepted and not used: bfloat16 has the exponents of float32, so that no gradient needs scaling.
        dtype: ``'bfloat16'`` or None; a CPU has no fast float16.
        **kwargs: Those of mmengine's ``OptimWrapper``.

    Raises:
        ValueError: If ``dtype`` is another one.
    """

    def __init__(self, loss_scale: Any = 'dynamic', dtype: str | None = None, **kwargs: Any) -> None:
        if dtype not in (None, 'bfloat16'):
            raise ValueError(f"optim_wrapper.dtype must be 'bfloat16' on a CPU, got {dtype!r}")
        super().__init__(**kwargs)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast around the forward pass."""
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield

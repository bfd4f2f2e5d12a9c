"""Mixed precision where there is no GPU: what ``--amp`` asks for, in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


def register_amp() -> None:
    """Let ``type='AmpOptimWrapper'``, and with it the stock scripts' ``--amp``, work on a machine without a GPU too."""
    OPTIM_WRAPPERS.register_module(name='AmpOptimWrapper', module=_build_amp_wrapper, force=True)


def _build_amp_wrapper(*args: Any, **kwargs: Any) -> OptimWrapper:
    """Build mmengine's wrapper where it runs, and :class:`CpuAmpOptimWrapper` on a CPU, where it refuses to."""
    on_gpu = torch.cuda.is_available() or any(hasattr(torch, backend) for backend in ('npu', 'mlu', 'musa'))
    return (AmpOptimWrapper if on_gpu else CpuAmpOptimWrapper)(*args, **kwargs)


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

"""What it costs to run a model: parameters, multiply-adds, latency, size of the file."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .examples import Example

UNITS = {
    'parameters': (1e6, 'M', 2),
    'multiply_adds': (1e9, 'G', 2),
    'latency': (1, 'ms', 1),
    'file_size': (1e6, 'MB', 2),
}


@dataclass(frozen=True)
class RunningCosts:
    """What a model costs.

    Attributes:
        parameters: Their number.
        multiply_adds: Of one image, NMS and the like not counted; a multiplication with its addition counts once, as in
            OpenMMLab's tables.
        latency: Median time of one image in milliseconds, from pixels to predictions.
        file_size: Bytes of a file of its weights alone.
    """

    parameters: int
    multiply_adds: float
    latency: float
    file_size: int

    def written(self, name: str) -> str:
        """Return one of them as text with its unit."""
        factor, unit, digits = UNITS[name]
        return f'{getattr(self, name) / factor:.{digits}f} {unit}'


def measure_costs(
    models: Mapping[str, nn.Module], example: Mapping[str, Example], rounds: int = 21
) -> dict[str, RunningCosts]:
    """Measure models on an image each; they take turns, so that a busy machine slows them all alike.

    Args:
        models: By title, in eval mode.
        example: The image that each is given, by title.
        rounds: How often each is timed.
    """
    times: dict[str, list[float]] = {title: [] for title in models}
    for index in range(rounds + 2):
        for title, model in models.items():
            seconds = timed(partial(_predict, model, example[title]), str(next(model.parameters()).device))
            if index >= 2:
                times[title].append(1000 * seconds)
    return {
        title: RunningCosts(
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            multiply_adds=_multiply_adds(model, example[title]),
            latency=statistics.median(times[title]),
            file_size=_file_size(model),
        )
        for title, model in models.items()
    }


def timed(piece: Callable[[], object], device: str) -> float:
    """Return the seconds that a call takes, until the device (``'cpu'``, ``'cuda'``, ``'cuda:1'``) is done with it."""
    _synchronize(device)
    started = time.perf_counter()
    piece()
    _synchronize(device)
    return time.perf_counter() - started


def _synchronize(device: str) -> None:
    # torch.utils.benchmark's clock waits for the current device, which need not be this one
    if device.startswith('cuda'):
        torch.cuda.synchronize(device)


@torch.no_grad()
def _predict(model: nn.Module, example: Example) -> None:
    model.test_step(example.batch())  # type: ignore[operator]


def _multiply_adds(model: nn.Module, example: Example) -> float:
    with FlopCounterMode(display=False) as counter:
        _predict(model, example)
    return counter.get_total_flops() / 2


def _file_size(model: nn.Module) -> int:
    buffer = io.BytesIO()
    torch.save({'state_dict': model.state_dict()}, buffer)
    return buffer.tell()

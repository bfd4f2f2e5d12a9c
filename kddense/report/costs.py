"""What it costs to run a model: parameters, multiply-adds, latency, size of the file."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

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
            OpenMMLab's tables. A two-stage detector is given as many proposals as its test config lets through, however
            many it would find.
        latency: Median time of one image in milliseconds, from pixels to predictions.
        file_size: Bytes of a file of its weights alone.
        proposals: How many a two-stage detector was given when its multiply-adds were counted; ``None`` of any other model.
    """

    parameters: int
    multiply_adds: float
    latency: float
    file_size: int
    proposals: int | None = None

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
            proposals=_proposals(model),
        )
        for title, model in models.items()
    }


CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}


def timed(piece: Callable[[], object], device: str, clock: str = 'wall') -> float:
    """Return the seconds that a call takes, until the device (``'cpu'``, ``'cuda'``, ``'cuda:1'``) is done with it.

    Args:
        piece: The call.
        device: What to wait for.
        clock: ``'wall'``, or ``'cpu'``: the seconds that processors worked for this process, of all its threads together,
            which depend less on what else the machine does.
    """
    _synchronize(device)
    started = CLOCKS[clock]()
    piece()
    _synchronize(device)
    return CLOCKS[clock]() - started


def median_ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios of times that were taken in turns with others."""
    return statistics.median(own / other for own, other in zip(times, others, strict=True))


def _synchronize(device: str) -> None:
    # torch.utils.benchmark's clock waits for the current device, which need not be this one
    if device.startswith('cuda'):
        torch.cuda.synchronize(device)


@torch.no_grad()
def _predict(model: nn.Module, example: Example) -> None:
    model.test_step(example.batch())  # type: ignore[operator]


def _multiply_adds(model: nn.Module, example: Example) -> float:
    with _all_proposals(model), FlopCounterMode(display=False) as counter:
        _predict(model, example)
    return counter.get_total_flops() / 2


def _proposals(model: nn.Module) -> int | None:
    test: Any = getattr(model, 'test_cfg', None)
    return int(test['rpn']['max_per_img']) if hasattr(model, 'rpn_head') and test and test.get('rpn') else None


@contextmanager
def _all_proposals(model: nn.Module) -> Iterator[None]:
    """Context manager: the RPN of a two-stage detector lets as many proposals through as it may, the last ones in copies."""
    count = _proposals(model)
    if count is None:
        yield
        return
    rpn: Any = model.rpn_head
    predict = rpn.predict

    def predict_all(*args: Any, **kwargs: Any) -> list[Any]:
        return [_filled_up(proposals, count) for proposals in predict(*args, **kwargs)]

    rpn.predict = predict_all
    try:
        yield
    finally:
        del rpn.predict


def _filled_up(proposals: Any, count: int) -> Any:
    """Return exactly ``count`` proposals, an ``InstanceData``; of none at all, boxes without an area."""
    if not len(proposals):
        filled = type(proposals)(metainfo=proposals.metainfo)
        for name, value in proposals.items():
            setattr(filled, name, value.new_zeros((count, *value.shape[1:])))
        return filled
    return proposals[torch.arange(count, device=proposals.scores.device).clamp(max=len(proposals) - 1)]


def _file_size(model: nn.Module) -> int:
    buffer = io.BytesIO()
    torch.save({'state_dict': model.state_dict()}, buffer)
    return buffer.tell()

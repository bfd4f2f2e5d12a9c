"""Teachers on a CUDA stream of their own, beside the student's forward pass.

**Order.** Before teachers are asked, their stream waits for the current one: the images are on their way there, and so are
the weights of a teacher that follows the student after each step of the optimiser. The current stream waits for theirs
before anything is compared, and not earlier. What is asked runs wholly on their stream, gradients of a teacher's own losses
and copies to and from a cache included.

**Memory.** PyTorch gives freed memory to what comes next on the stream that it was made on. So each tensor that one stream
made and the other uses is marked, and its memory is free only when both are done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from kddense.errors import ConfigError
from kddense.exchange import Answer, Batch
from kddense.views import captures_graphs

from .finite import waits


class SideStream:
    """Lets teachers compute on a CUDA stream of their own.

    Args:
        is_on: Whether it does. On a CPU nothing changes in any case.
    """

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on
        self._streams: dict[torch.device, Any] = {}

    def ask(self, ask: Callable[[Batch], dict[str, Answer]], batch: Batch) -> dict[str, Answer]:
        """Ask about a batch; what is answered must not be used before :meth:`joined`."""
        device = batch.inputs.device
        if not self.is_on or not waits(device):
            return ask(batch)
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        stream = self._streams[device]
        stream.wait_stream(torch.cuda.current_stream(device))
        for tensor in tensors_in(batch):
            _mark(tensor, stream)
        with torch.cuda.stream(stream):
            return ask(batch)

    def joined(self, answers: dict[str, Answer]) -> dict[str, Answer]:
        """Return what was answered, for the current stream to use from now on."""
        for device, stream in self._streams.items():
            current = torch.cuda.current_stream(device)
            current.wait_stream(stream)
            for tensor in tensors_in(answers):
                _mark(tensor, current)
        return answers

    def __deepcopy__(self, memo: dict[int, Any]) -> SideStream:
        """Return one with streams of its own: those of CUDA cannot be copied."""
        return SideStream(self.is_on)


def check_side_stream(teachers: Mapping[str, nn.Module]) -> None:
    """Raise a ConfigError for teachers that cannot compute beside the student.

    Args:
        teachers: By name.
    """
    for name, teacher in teachers.items():
        if captures_graphs(teacher):
            raise ConfigError(
                f": the teacher '{name}' replays CUDA graphs, which share the student's memory and cannot run beside it: "
                'remove it, or compile that teacher without graphs (compile=True)',
                'side_stream',
            )


def _mark(tensor: Tensor, stream: Any) -> None:
    if waits(tensor.device):
        tensor.record_stream(stream)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield all tensors in answers, batches, data samples and what nests them; modules are passed over."""
    if isinstance(value, Tensor):
        yield value
        return
    for part in _parts_of(value):
        yield from tensors_in(part)


def _parts_of(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, BaseDataElement):
        return [*value.all_values()]
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, one.name) for one in fields(value)]
    inside = getattr(value, 'tensor', None)  # of mmdet's boxes
    return [inside] if isinstance(inside, Tensor) else []

"""Where the values before a part's last ReLU are heard, in any network: found by running it once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kddense.taps import Taps, tensors_of
from kddense.views import ModelView

RELUS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU)
POOLINGS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@dataclass(frozen=True)
class Place:
    """Where the values before a ReLU are heard.

    Attributes:
        tap: The ReLU's input; or, of a part without a ReLU at its end, the part itself.
        index: Which of the tensors at the tap.
        norm: The path of the last norm before it, ``None`` if there is none.
    """

    tap: str
    index: int
    norm: str | None

    def value(self, taps: Any) -> Tensor:
        """Return the value of what an answer holds at its taps."""
        return list(tensors_of(taps[self.tap]))[self.index]


@dataclass(frozen=True)
class _Run:
    """One run of a layer."""

    path: str
    module: nn.Module
    given: Any
    result: Any


def places_of(view: ModelView, part: str) -> list[Place]:
    """Return one place for each map that a part returns.

    A ReLU counts if what it returns is the map; else, as in MobileNetV2's linear bottlenecks, the map itself has no
    ReLU behind it yet.

    Args:
        view: The student's, or a teacher's.
        part: A sub-module, such as ``'backbone'``, or a part of one.

    Raises:
        ValueError: If a map comes out of a pooling, which no longer has values below 0.
    """
    ran: list[_Run] = []
    with ExitStack() as stack:
        for path, module in view.model.named_modules():
            if _is_inside(path, part) and not any(True for _ in module.children()):
                stack.callback(module.register_forward_hook(_noting(path, ran)).remove)
        with Taps(view.model, [part], view.owner) as recording:
            view.probe([part])
    norms = {path for path, module in view.model.named_modules() if isinstance(module, nn.modules.batchnorm._NormBase)}
    maps = list(tensors_of(recording.calls(part)[-1]))
    return [_place(part, index, one, ran, norms.union(view.norms)) for index, one in enumerate(maps)]


def _is_inside(path: str, part: str) -> bool:
    return path == part or path.startswith(f'{part}.')


def _noting(path: str, ran: list[_Run]) -> Any:
    def note(module: nn.Module, arguments: Any, result: Any) -> None:
        ran.append(_Run(path, module, arguments[0] if arguments else None, result))

    return note


def _place(part: str, index: int, value: Tensor, ran: list[_Run], norms: set[str]) -> Place:
    makers = [position for position, run in enumerate(ran) if run.result is value]
    end = makers[-1] if makers else _last_before(value, ran)
    norm = next((run.path for run in reversed(ran[: end + 1]) if run.path in norms), None)
    if makers and isinstance(ran[end].module, POOLINGS):
        raise ValueError(
            f"'{part}' returns what the pooling '{ran[end].path}' makes of values behind a ReLU: name parts before it"
        )
    if not makers or not isinstance(ran[end].module, RELUS):
        return Place(part, index, norm)
    path = ran[end].path
    runs = [position for position, run in enumerate(ran) if run.path == path]
    return Place(f'{path}:input:copy', runs.index(end) - len(runs), norm)


def _last_before(value: Tensor, ran: list[_Run]) -> int:
    """Return the layer that ran last before a sum of two branches was handed on."""
    takers = [position for position, run in enumerate(ran) if run.given is value]
    return takers[0] - 1 if takers else len(ran) - 1

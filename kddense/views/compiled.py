"""Compiling the parts of a model that nobody listens into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from kddense.taps import Tap

CAPTURING = ('reduce-overhead', 'max-autotune')  # modes of torch.compile
PARTS = ('backbone', 'neck')  # heads are listened to in their methods, and find boxes of ever other numbers


class CompiledParts:
    """Lets ``torch.compile`` run as much of a model's backbone and neck as taps allow; the rest runs as it is.

    A tap hears a module that is called, which a compiled module's own parts are not. So what is compiled are the largest
    modules at which and in which nobody has listened so far. Weights, names and checkpoints stay.

    Args:
        options: Of ``torch.compile``; shapes are static by default.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = {'dynamic': False, **options}
        self._taps: frozenset[str] = frozenset()
        self._compiled: dict[str, nn.Module] = {}
        self._done: tuple[int, frozenset[str] | None] | None = None

    @classmethod
    def of(cls, option: bool | Mapping[str, Any]) -> CompiledParts | None:
        """Return what an option ``compile`` of a config asks for: ``False``, ``True`` or options."""
        if option is False:
            return None
        return cls({} if option is True else option)

    @property
    def captures(self) -> bool:
        """Whether what is compiled is captured in CUDA graphs, and replayed."""
        inductor = self.options.get('options') or {}
        return (
            self.options.get('backend') == 'cudagraphs'
            or self.options.get('mode') in CAPTURING
            or bool(inductor.get('triton.cudagraphs'))
        )

    def listen(self, model: nn.Module, taps: Iterable[str] | None) -> None:
        """Compile what these taps, and those of before, leave, if that has not been done; ``None`` leaves nothing."""
        self._taps |= frozenset(taps or ())
        wanted = (id(model), None if taps is None else self._taps)
        if wanted == self._done:
            return
        self._done = wanted
        chosen = {} if wanted[1] is None else dict(free_parts(model, wanted[1]))
        for path in self._compiled.keys() - chosen.keys():
            self._compiled[path]._compiled_call_impl = None
        for path, module in chosen.items():
            if self._compiled.get(path) is not module:
                module.compile(**self.options)
        self._compiled = chosen


def captures_graphs(model: nn.Module) -> bool:
    """Tell whether any part of a model is to run in CUDA graphs, by an option ``compile`` of its own."""
    return any(
        isinstance(parts := vars(module).get('_compiled'), CompiledParts) and parts.captures
        for module in model.modules()
    )


def begin_graphs(model: nn.Module) -> None:
    """Begin a step of CUDA graphs: from now on they may write over what they returned before.

    Within a step nothing is written over, however often a model runs. Gradients that a step before left, to be added to,
    are moved out of their way.

    Args:
        model: What trains.
    """
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad = parameter.grad.clone()
    torch.compiler.cudagraph_mark_step_begin()


def free_parts(model: nn.Module, taps: Iterable[str]) -> Iterator[tuple[str, nn.Module]]:
    """Yield the largest modules of backbone and neck with no tap at them or in them, and their paths."""
    tapped = {Tap.parse(tap).path for tap in taps}
    for name in PARTS:
        module = getattr(model, name, None)
        if isinstance(module, nn.Module):
            yield from _free(name, module, tapped)


def _free(path: str, module: nn.Module, tapped: set[str]) -> Iterator[tuple[str, nn.Module]]:
    is_list = isinstance(module, (nn.ModuleList, nn.ModuleDict))  # which nobody calls
    if is_list or any(one == path or one.startswith(f'{path}.') for one in tapped):
        for name, child in module.named_children():
            yield from _free(f'{path}.{name}', child, tapped)
    elif next(module.children(), None) is not None:  # a single layer gains nothing
        yield path, module

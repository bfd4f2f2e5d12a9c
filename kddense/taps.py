"""Reading values inside a model by name, without leaving a trace.

A tap is a short text:

==============================  =====================================================================
``'neck'``                      what the sub-module returns
``'decode_head.conv_seg:input'``  what the sub-module is given (its first positional argument)
``'backbone.norm1:copy'``       what it returns, copied at once: for values that the next layer overwrites
``'rpn_head.get_targets()'``    the arguments and the result of a method, as a :class:`Call`
==============================  =====================================================================
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from torch import Tensor, nn

KINDS = ('output', 'input', 'copy', 'call')


class TapError(ValueError):
    """A tap that names nothing, is never reached, or whose value is gone when it is read."""


@dataclass(frozen=True)
class Tap:
    """Where to listen: the sub-module ``path``, its ``method``, and which side of it (``kind``)."""

    path: str
    method: str
    kind: str

    @classmethod
    def parse(cls, text: str) -> Tap:
        """Read the short text described at the top of this module."""
        if text.endswith('()'):
            path, _, method = text[:-2].rpartition('.')
            return cls(path, method, 'call')
        path, _, kind = text.partition(':')
        kind = kind or 'output'
        if kind not in KINDS[:3]:
            raise TapError(
                f"tap '{text}': '{kind}' is unknown, use 'path', 'path:input', 'path:copy' or 'path.method()'"
            )
        return cls(path, 'forward', kind)


@dataclass(frozen=True)
class Call:
    """One call of a tapped method: its arguments by name (defaults filled in) and what it returned."""

    arguments: dict[str, Any]
    result: Any


@dataclass(frozen=True)
class _Recorded:
    value: Any
    versions: tuple[int, ...]

    def is_overwritten(self) -> bool:
        return self.versions != tensor_versions(self.value)


class Recording:
    """What the taps heard. ``recording['neck']`` is one value, or a list if the module ran several times."""

    def __init__(self, taps: Iterable[str], owner: str) -> None:
        self._owner = owner
        self._heard: dict[str, list[_Recorded]] = {tap: [] for tap in taps}

    def add(self, tap: str, value: Any) -> None:
        """Keep one value (called by :class:`Taps`)."""
        self._heard[tap].append(_Recorded(value, tensor_versions(value)))

    def heard(self, tap: str) -> bool:
        """Tell whether ``tap`` heard anything."""
        return bool(self._heard[tap])

    def calls(self, tap: str) -> list[Any]:
        """Return every value that ``tap`` heard, in the order of the calls.

        Raises:
            TapError: If it heard nothing, or if a later layer has overwritten a value in place.
        """
        heard = self._heard[tap]
        if not heard:
            raise TapError(f"tap '{tap}': this part of the {self._owner} did not run")
        if any(recorded.is_overwritten() for recorded in heard):
            raise TapError(
                f"tap '{tap}': a later layer of the {self._owner} overwrites this value in place (an in-place ReLU, "
                f"say); write '{tap}:copy' to keep a copy"
            )
        return [recorded.value for recorded in heard]

    def __getitem__(self, tap: str) -> Any:
        values = self.calls(tap)
        return values[0] if len(values) == 1 else values


class Taps:
    """A context manager that listens to a model and, on leaving, is gone from it without a trace.

    Methods are listened to by shadowing them on the instance, so that a module is heard both when it is called and when
    its ``forward`` is called directly, as mmseg's heads do.

    Args:
        model: The model to listen to.
        taps: Short texts, see the top of this module.
        owner: How to call the model in messages, ``'student'`` or ``'teacher'``.

    Raises:
        TapError: If a tap names nothing; the message gives the nearest names.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with Taps(model, ['0', '1:input']) as recording:
        ...     y = model(torch.ones(1, 2))
        >>> recording['0'] is recording['1:input']
        True
    """

    def __init__(self, model: nn.Module, taps: Iterable[str], owner: str = 'model') -> None:
        self._owner = owner
        self._places = {text: self._resolve(model, text) for text in taps}
        self._listening = ExitStack()

    def _resolve(self, model: nn.Module, text: str) -> tuple[nn.Module, Tap]:
        tap = Tap.parse(text)
        modules = dict(model.named_modules())
        if tap.path not in modules:
            raise TapError(
                f"tap '{text}': the {self._owner} ({type(model).__name__}) has no part '{tap.path}'"
                f'{_nearest(tap.path, modules)}'
            )
        module = modules[tap.path]
        if not callable(getattr(module, tap.method, None)):
            raise TapError(
                f"tap '{text}': {type(module).__name__} has no method '{tap.method}'{_nearest(tap.method, dir(module))}"
            )
        return module, tap

    def __enter__(self) -> Recording:
        recording = Recording(self._places, self._owner)
        for text, (module, tap) in self._places.items():
            self._listening.enter_context(shadowed(module, tap.method, _listener(tap, text, recording)))
        return recording

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listening.close()


def _nearest(name: str, names: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    return f'; the nearest names are {", ".join(map(repr, nearest))}' if nearest else ''


@contextmanager
def shadowed(module: nn.Module, method: str, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """Put ``wrap(method)`` in the place of a module's method for a while, on this instance only."""
    before = module.__dict__.get(method)
    module.__dict__[method] = wrap(getattr(module, method))
    try:
        yield
    finally:
        if before is None:
            del module.__dict__[method]
        else:
            module.__dict__[method] = before


def _listener(tap: Tap, text: str, recording: Recording) -> Callable[[Callable], Callable]:
    def wrap(original: Callable) -> Callable:
        @functools.wraps(original)
        def listened(*args: Any, **kwargs: Any) -> Any:
            if tap.kind == 'input':  # before the module itself, an in-place ReLU say, overwrites it
                recording.add(text, _first_argument(original, args, kwargs))
            result = original(*args, **kwargs)
            if tap.kind == 'output':
                recording.add(text, result)
            elif tap.kind == 'copy':
                recording.add(text, map_tensors(Tensor.clone, result))
            elif tap.kind == 'call':
                recording.add(text, Call(_arguments(original, args, kwargs), result))
            return result

        return listened

    return wrap


def _first_argument(original: Callable, args: tuple, kwargs: dict) -> Any:
    return next(iter(inspect.signature(original).bind(*args, **kwargs).arguments.values()), None)


def _arguments(original: Callable, args: tuple, kwargs: dict) -> dict[str, Any]:
    bound = inspect.signature(original).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dicts, in order; anything else is passed over."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_of(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_of(item)


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Apply ``function`` to every tensor in nested tuples, lists and dicts; the nesting stays."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (list, tuple)):
        items = [map_tensors(function, item) for item in value]
        return type(value)(*items) if hasattr(value, '_fields') else type(value)(items)  # a namedtuple, or a plain one
    if isinstance(value, dict):
        return {key: map_tensors(function, item) for key, item in value.items()}
    return value


def tensor_versions(value: Any) -> tuple[int, ...]:
    """Return PyTorch's in-place counters of all tensors in ``value``."""
    return tuple(tensor._version for tensor in tensors_of(value))

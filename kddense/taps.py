"""Reading values inside a model by name, without leaving a trace.

A tap is a short text:

================================  ===================================================================
``'neck'``                        what the sub-module returns
``''``                            what the model itself returns
``'decode_head.conv_seg:input'``  what the sub-module is given (its first argument)
``'backbone.norm1:copy'``         what it returns, copied at once: for values that the next layer overwrites
``'backbone.relu:input:copy'``    what it is given, copied before it runs: for layers that work in place
``'rpn_head.get_targets()'``      the arguments and the result of a method, as a :class:`Call`
================================  ===================================================================
"""

from __future__ import annotations

import copy
import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from torch import Tensor, nn

SIDES = ('output', 'input', 'call')
FORMS = "'path', 'path:input', 'path:copy', 'path:input:copy' or 'path.method()'"


class TapError(ValueError):
    """A tap that names nothing, is never reached, or whose value is gone when it is read."""


@dataclass(frozen=True)
class Tap:
    """Where to listen: the sub-module ``path``, its ``method``, which ``side`` of it, and whether to ``copy`` the value."""

    path: str
    method: str = 'forward'
    side: str = 'output'
    copy: bool = False

    @classmethod
    def parse(cls, text: str) -> Tap:
        """Read the short text described at the top of this module."""
        if text.endswith('()'):
            path, _, method = text[:-2].rpartition('.')
            return cls(path, method, 'call')
        path, *options = text.split(':')
        if options not in ([], ['input'], ['copy'], ['input', 'copy']):
            raise TapError(f"tap '{text}': '{':'.join(options)}' is unknown, use {FORMS}")
        return cls(path, side='input' if 'input' in options else 'output', copy='copy' in options)


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
                f'say); {_mend_of(tap)}'
            )
        return [recorded.value for recorded in heard]

    def __getitem__(self, tap: str) -> Any:
        values = self.calls(tap)
        return values[0] if len(values) == 1 else values


class Taps:
    """A context manager that listens to a model and, on leaving, is gone from it without a trace.

    Methods are listened to by shadowing them on the instance, so that a module is heard both when it is called and when
    its ``forward`` is called directly, as mmseg's heads do. A block of mmdet or mmseg that runs under gradient checkpointing
    (``with_cp``, ``num_cp``) keeps its values for the backward pass while something inside it is listened to.

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
        modules = dict(model.named_modules())
        self._places = {text: self._resolve(model, modules, text) for text in taps}
        self._checkpointed = _checkpointed(modules, [tap.path for _, tap in self._places.values()])
        self._listening = ExitStack()

    def _resolve(self, model: nn.Module, modules: Mapping[str, nn.Module], text: str) -> tuple[nn.Module, Tap]:
        tap = Tap.parse(text)
        if tap.path not in modules:
            raise TapError(
                f"tap '{text}': the {self._owner} ({type(model).__name__}) has no part '{tap.path}'"
                f'{nearest(tap.path, modules)}'
            )
        module = modules[tap.path]
        if not callable(getattr(module, tap.method, None)):
            raise TapError(
                f"tap '{text}': {type(module).__name__} has no method '{tap.method}'{nearest(tap.method, dir(module))}"
            )
        return module, tap

    def __enter__(self) -> Recording:
        recording = Recording(self._places, self._owner)
        for module in self._checkpointed:
            self._listening.enter_context(_uncheckpointed(module))
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


def _mend_of(tap: str) -> str:
    return 'tap a part of the call instead' if tap.endswith('()') else f"write '{tap}:copy' to keep a copy"


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the end of a message: which of ``names`` are most like ``name``, if any is."""
    found = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    return f'; the nearest names are {", ".join(map(repr, found))}' if found else ''


def _checkpointed(modules: Mapping[str, nn.Module], paths: Iterable[str]) -> list[nn.Module]:
    """Return the modules above ``paths`` that run under gradient checkpointing."""
    above = {path[:end] for path in paths for end, letter in enumerate(path) if letter == '.'}
    return [modules[path] for path in sorted(above) if any(_switches(modules[path]))]


def _switches(module: nn.Module) -> tuple[bool, bool]:
    """Tell whether a block checkpoints itself, by its ``with_cp``; and whether fairscale's wrapper does, for ``num_cp``."""
    wrapper = getattr(vars(module).get('forward'), 'func', None)
    return getattr(module, 'with_cp', False) is True, getattr(wrapper, '__name__', '') == '_checkpointed_forward'


@contextmanager
def _uncheckpointed(module: Any) -> Iterator[None]:
    """Context manager: what runs inside a module is in the graph of the backward pass."""
    names = [name for name, is_on in zip(('with_cp', 'forward'), _switches(module), strict=True) if is_on]
    before = {name: vars(module).pop(name) for name in names}
    if 'with_cp' in before:
        module.with_cp = False
    try:
        yield
    finally:
        vars(module).update(before)


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
    def keep(value: Any) -> None:
        recording.add(text, map_tensors(Tensor.clone, value) if tap.copy else value)

    def wrap(original: Callable) -> Callable:
        @functools.wraps(original)
        def listened(*args: Any, **kwargs: Any) -> Any:
            if tap.side == 'input':  # before the module itself, an in-place ReLU say, overwrites it
                keep(_first_argument(original, args, kwargs))
            arguments = _arguments(original, args, kwargs) if tap.side == 'call' else {}
            result = original(*args, **kwargs)
            if tap.side == 'output':
                keep(result)
            elif tap.side == 'call':
                keep(Call(arguments, _with_own_containers(result)))
            return result

        return listened

    return wrap


def _with_own_containers(value: Any) -> Any:
    """Copy nested lists and dicts, not the tensors in them: callers may go on to change theirs."""
    return map_tensors(lambda tensor: tensor, value)


def _first_argument(original: Callable, args: tuple, kwargs: dict) -> Any:
    return next(iter(inspect.signature(original).bind(*args, **kwargs).arguments.values()), None)


def _arguments(original: Callable, args: tuple, kwargs: dict) -> dict[str, Any]:
    bound = inspect.signature(original).bind(*args, **kwargs)
    bound.apply_defaults()
    return {name: _with_own_containers(value) for name, value in bound.arguments.items()}


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists, dicts and calls, in order; anything else is passed over."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Call):
        yield from tensors_of([value.arguments, value.result])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_of(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_of(item)


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Apply ``function`` to every tensor in nested tuples, lists, dicts and calls; the nesting stays."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Call):
        return Call(map_tensors(function, value.arguments), map_tensors(function, value.result))
    if isinstance(value, (list, tuple)):
        items = [map_tensors(function, item) for item in value]
        return type(value)(*items) if hasattr(value, '_fields') else type(value)(items)  # a namedtuple, or a plain one
    if isinstance(value, dict):
        mapped = {key: map_tensors(function, item) for key, item in value.items()}
        return mapped if type(value) is dict else _like(value, mapped)
    return value


def _like(value: dict, items: dict) -> dict:
    """Return a mapping of the class of ``value``, a ConfigDict say, with other items."""
    other = copy.copy(value)
    other.update(items)
    return other


def tensor_versions(value: Any) -> tuple[int, ...]:
    """Return PyTorch's in-place counters of all tensors in ``value``."""
    return tuple(tensor._version for tensor in tensors_of(value))

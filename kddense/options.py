"""Options of a config: what the type hints of a constructor say is checked before it runs, for every registered class.

A checker of our own, as configs are no Python calls: lists stand for tuples there and whole numbers for floats, but True is
no number and a text no list of texts. Type checkers that are published decide these otherwise.
"""

from __future__ import annotations

import collections.abc
import difflib
import functools
import inspect
import math
import numbers
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union

from kddense.errors import NO_SUCH_OPTION, ConfigError, joined
from kddense.taps import nearest

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
NO_DEFAULT = inspect.Parameter.empty
WORDS = {
    bool: 'True or False',
    int: 'a whole number',
    float: 'a number',
    str: 'a text',
    Path: 'a path',
    type(None): 'None',
}
OF_MANY = {bool: 'True or False', int: 'whole numbers', float: 'numbers', str: 'texts', Path: 'paths'}
UNIONS = (Union, types.UnionType)


def check_pattern(pattern: str, key: str) -> None:
    """Raise a :class:`ConfigError` unless a text is a regular expression.

    Args:
        pattern: The text.
        key: The config key that holds it.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f": '{pattern}' is no regular expression: {error}; in these '.*' stands for any text", key
        ) from None


def checked(kind: Any, place: str = '') -> Any:
    """Let a class check its options before its constructor runs, and name them where that refuses one.

    Args:
        kind: The class, changed in place. What is no class is returned as it is.
        place: The config key under which such parts stand in a list, such as ``'custom_hooks'``.
    """
    if not isinstance(kind, type) or '_checks_options' in vars(kind):
        return kind
    build: Any = kind.__init__  # type: ignore[misc]
    owner = getattr(kind, 'config_key', joined(place, kind.__name__))

    @functools.wraps(build)
    def init(self: Any, *args: Any, **options: Any) -> None:
        if type(self) is not kind:  # what derives from it is checked itself, if it is registered
            return build(self, *args, **options)
        check_options(kind, args, options, owner)
        try:
            return build(self, *args, **options)
        except (ValueError, TypeError) as error:
            named = _naming_an_option(kind, error, options, owner)
            if named is None:
                raise
            raise named from error

    kind.__init__ = init  # type: ignore[misc]
    kind._checks_options = True  # type: ignore[attr-defined]
    return kind


def check_options(kind: type, args: Sequence[Any], options: Mapping[str, Any], owner: str) -> None:
    """Check the names and types of the options that a class is built with.

    Raises:
        ConfigError: If an option is unknown, missing or of another type than the class's hints say.
    """
    known = options_of(kind)
    positional = [name for name, one in known.items() if one.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD]
    given = {**dict(zip(positional, args, strict=False)), **options}
    if not _takes_any(kind) and not getattr(kind, 'names_unknown_keys', False):  # which a class may do better itself
        for name in given.keys() - known.keys():
            raise ConfigError(no_such_key(name, known), owner=owner or 'model')
    for name, one in known.items():
        if name not in given:
            if one.default is NO_DEFAULT and name in inspect.signature(kind).parameters:
                raise ConfigError(f" needs the key '{name}', {words(one.annotation)}", owner=owner or 'model')
        elif given[name] is not one.default:
            for key, fault in faults(given[name], one.annotation, name, one.default):
                raise ConfigError(fault, key, owner)


def no_such_key(name: str, known: typing.Iterable[str]) -> str:
    """Return the fault of a key that there is not, with those that there are."""
    return f" has no key '{name}', only {', '.join(sorted(known)) or 'none'}{nearest(name, known)}"


def check_no_misspelling(written: typing.Iterable[str], known: Sequence[str]) -> None:
    """Check the names that a config file sets at its top, where it may have names of its own too.

    Args:
        written: They.
        known: Those that have a meaning.

    Raises:
        ConfigError: If one is nearly one of those.
    """
    for name in written:
        near = difflib.get_close_matches(name, known, 1, 0.85)
        if name not in known and near:
            raise ConfigError(f" has no meaning: is '{near[0]}' meant? Else choose another name", name)


@functools.cache
def options_of(kind: type) -> dict[str, inspect.Parameter]:
    """Return the options of a class by name, with those that it passes on to the classes it derives from.

    Annotations are resolved; ``Any`` where they cannot be.
    """
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if '__init__' not in vars(base) or base is object:
            continue
        build: Any = inspect.unwrap(base.__init__)  # type: ignore[misc]
        parameters = [] if build is object.__init__ else list(inspect.signature(build).parameters.values())[1:]
        hints = _hints(build)
        for one in parameters:
            if one.kind in NAMED and one.name not in found:
                found[one.name] = one.replace(annotation=hints.get(one.name, Any))
        if not any(one.kind == one.VAR_KEYWORD for one in parameters):
            break
    return found


def default_of(kind: type, name: str) -> Any:
    """Return what an option of a class is where a config does not name it; ``None`` if it has no default."""
    option = options_of(kind).get(name)
    return None if option is None or option.default is NO_DEFAULT else option.default


def _takes_any(kind: type) -> bool:
    """Tell whether a class passes options on to something that it does not derive from."""
    for base in kind.__mro__:
        if '__init__' in vars(base) and base is not object:
            build: Any = inspect.unwrap(base.__init__)  # type: ignore[misc]
            kinds = [one.kind for one in inspect.signature(build).parameters.values()]
            if build is object.__init__ or inspect.Parameter.VAR_KEYWORD not in kinds:
                return False
    return True


def _hints(build: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(build)
    except (NameError, TypeError):  # names that are imported for type checkers alone
        return {}


def _naming_an_option(kind: type, error: Exception, options: Mapping[str, Any], owner: str) -> ConfigError | None:
    """Return an error of a constructor as one that names the option it begins with, ``None`` if it names none."""
    if type(error) not in (ValueError, TypeError):
        return None
    text = str(error)
    unknown = NO_SUCH_OPTION.search(text) or re.search(r"got multiple values for keyword argument '(\w+)'", text)
    if isinstance(error, TypeError) and unknown and unknown[1] in options:
        return ConfigError(no_such_key(unknown[1], options_of(kind).keys() - {unknown[1]}), owner=owner)
    start = re.match(r'\w+(?!=)\b', text)
    if start is None or start[0] not in options_of(kind):
        return None
    return ConfigError(text[start.end() :], start[0], owner)


def faults(value: Any, hint: Any, key: str = '', default: Any = NO_DEFAULT) -> Iterator[tuple[str, str]]:
    """Yield what does not fit a type hint: keys, and what is wrong there.

    Args:
        value: What a config gives.
        hint: A resolved annotation.
        key: The config key of the value.
        default: The option's own default: what is infinite or empty there may be so here.
    """
    entries = _entries_hint(value, hint)
    if entries is not None and isinstance(value, Mapping):
        for name, one in value.items():
            if not isinstance(name, str):
                yield key, f'must have texts as keys, got {name!r}'
            yield from faults(one, entries, joined(key, str(name)))
        return
    if not fits(value, hint):
        yield key, f'must be {words(hint)}, got {shown(value)}'
    elif isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and not _is_infinite(default))):
        yield key, f'must be finite, got {value}'
    elif isinstance(value, (list, tuple)):
        if not value and default != () and default != []:
            yield key, f'must be {words(hint)}, and not empty, got {shown(value)}'
        if any(isinstance(one, float) and not math.isfinite(one) for one in value):
            yield key, f'must hold finite numbers, got {shown(value)}'


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value of a config is of a type; see the top of this module for what differs from Python's."""
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint is Any or isinstance(hint, (str, typing.TypeVar)):
        return True
    if origin in UNIONS:
        return any(fits(value, one) for one in arguments)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in arguments)
    if origin is bool:
        return isinstance(value, bool)
    if origin is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if origin is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if origin in (collections.abc.Sequence, collections.abc.Iterable, list, tuple):
        return isinstance(value, (list, tuple)) and _entries_fit(value, origin, arguments)
    return not isinstance(origin, type) or isinstance(value, origin)


def _entries_fit(value: Sequence[Any], origin: Any, arguments: tuple[Any, ...]) -> bool:
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    return not arguments or all(fits(one, arguments[0]) for one in value)


def _entries_hint(value: Any, hint: Any) -> Any:
    """Return the hint of a dict's entries, ``None`` if it says nothing of them."""
    if not isinstance(value, Mapping):
        return None
    for one in typing.get_args(hint) if typing.get_origin(hint) in UNIONS else (hint,):
        if typing.get_origin(one) in (collections.abc.Mapping, dict):
            entries = typing.get_args(one)[1]
            return None if entries is Any else entries
    return None


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


def words(hint: Any, many: bool = False) -> str:
    """Return a type hint in words: ``'a number or a dict'``."""
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint is Any:
        return 'values' if many else 'a value'
    if origin in UNIONS:
        return _listed([words(one, many) for one in arguments])
    if origin is Literal:
        return f'one of {", ".join(map(repr, arguments))}' if len(arguments) > 1 else repr(arguments[0])
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return 'dicts' if many else 'a dict'
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        one = arguments[0] if len(set(arguments)) == 1 else Any
        return f'{"lists" if many else "a list"} of {len(arguments)} {words(one, many=True)}'
    if origin in (collections.abc.Sequence, collections.abc.Iterable, list, tuple):
        return f'{"lists" if many else "a list"}{f" of {words(arguments[0], many=True)}" if arguments else ""}'
    names = OF_MANY if many else WORDS
    return names.get(origin, f'a {getattr(origin, "__name__", origin)}')


def _listed(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return names[0] if len(names) == 1 else f'{", ".join(names[:-1])} or {names[-1]}'


def shown(value: Any, longest: int = 80) -> str:
    """Return a value as a message shows it."""
    text = ' '.join(repr(value).split())
    return text if len(text) <= longest else f'{text[:longest]}…'

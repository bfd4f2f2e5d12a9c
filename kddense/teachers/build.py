"""From a config to a teacher."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from kddense.errors import ConfigError, within
from kddense.options import NO_DEFAULT, no_such_key, options_of
from kddense.registry import TEACHERS
from kddense.taps import nearest

from .base import Teacher
from .frozen import FrozenTeacher

MEANINGS = {'config': "the teacher's config", 'checkpoint': "the path of the trained teacher's weights"}


def is_one_teacher(config: Mapping[str, Any]) -> bool:
    """Tell whether a config is of one teacher, and not a dict of several by name."""
    if config.keys() & {'type', 'config', 'checkpoint'}:
        return True
    return any(not isinstance(config[key], Mapping) for key in arguments_of(FrozenTeacher) & config.keys())


def build_teacher(config: Any, where: str) -> Teacher:
    """Build a teacher.

    Args:
        config: Its ``type`` and arguments; without a type those of :class:`FrozenTeacher`.
        where: The config key that messages name.

    Raises:
        ValueError: If an argument is missing or unknown, or does not fit; the message begins with the config key.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"{where} must be a dict with the keys 'config' and 'checkpoint', got {config!r}")
    arguments = dict(config)
    kind = arguments.pop('type', None)
    teacher = FrozenTeacher if kind is None else _type_of(kind, where)
    known = arguments_of(teacher)
    for key in sorted(_needed(teacher) - arguments.keys()):
        meaning = f': {MEANINGS[key]}' if key in MEANINGS else ''
        raise ConfigError(f" needs the key '{key}'{meaning}", where)
    for key in sorted(arguments.keys() - known):
        raise ConfigError(no_such_key(key, known), where)
    with within(where, config):
        return teacher(**arguments, name=where)


def _type_of(kind: Any, where: str) -> type[Teacher]:
    found = TEACHERS.get(kind) if isinstance(kind, str) else kind
    if found is None:
        known = [f'kddense.{name}' for name in TEACHERS.module_dict]
        raise ValueError(f"{where}.type: there is no teacher '{kind}'{nearest(str(kind), known)}")
    if not (isinstance(found, type) and issubclass(found, Teacher)):
        raise ValueError(f'{where}.type: {kind} is no Teacher')
    return found


def arguments_of(kind: type) -> set[str]:
    """Return the names of the arguments that a class takes, with those that it passes on to the classes it derives from."""
    beneath = getattr(kind, 'passes_on_to', None)  # the class that it builds of what it does not know
    passed_on = arguments_of(beneath) if beneath is not None else set()
    return (options_of(kind).keys() | passed_on) - {'name'}


def _needed(kind: type) -> set[str]:
    own = inspect.signature(kind).parameters
    return {name for name, one in options_of(kind).items() if name in own and one.default is NO_DEFAULT}

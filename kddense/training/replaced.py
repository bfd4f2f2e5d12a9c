"""What of a student's own config another config has replaced: mmengine merges dicts, and replaces lists and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kddense.registry import SCOPE, name_of

from .joint_optim_constructor import JointOptimWrapperConstructor, check_schedules, known_by

JOINT = JointOptimWrapperConstructor.__name__


def replaced_hooks(config: Config) -> list[str]:
    """Return the types of hooks that a list of hooks of kddense alone has replaced.

    Args:
        config: The config of a run; of one that was not read from a file nothing is known.
    """
    there = _types(config)
    if not there or not all(kind.startswith(SCOPE) for kind in there):
        return []
    before = next((kinds for kinds in map(_types, _bases(config)) if kinds is not None and kinds != there), None)
    return [kind for kind in before or () if kind not in there]


def check_optimisers(config: Config) -> None:
    """Check what a config says of several optimisers, as far as its parts alone cannot tell.

    Args:
        config: The config of a run.

    Raises:
        ValueError: If schedules have names that no optimiser has, or the constructor of the student's optimiser is gone.
    """
    check_schedules(config)
    gone = _replaced_constructor(config)
    if gone:
        raise ValueError(
            f"optim_wrapper.constructor: the one for several optimisers replaces the student's own, {gone}: write "
            f"optim_wrapper = dict(student_constructor='{gone}', **_base_.joint_optim_wrapper)"
        )


def _replaced_constructor(config: Config) -> str | None:
    wrapper = config.get('optim_wrapper') or {}
    if not _is_joint(wrapper) or wrapper.get('student_constructor'):
        return None
    wrappers = (base.get('optim_wrapper') for base in _bases(config))
    own = next((one for one in wrappers if isinstance(one, Mapping) and not _is_joint(one)), {})
    constructor = own.get('constructor')
    is_kept = not constructor or name_of(constructor) == known_by(wrapper.get('paramwise_cfg') or {})
    return None if is_kept else getattr(constructor, '__name__', str(constructor))


def _is_joint(wrapper: Mapping[str, Any]) -> bool:
    return name_of(wrapper.get('constructor') or '') == JOINT


def _types(config: Mapping[str, Any]) -> list[str] | None:
    hooks = config.get('custom_hooks')
    return None if hooks is None else [str(hook.get('type')) for hook in hooks if isinstance(hook, Mapping)]


def _bases(config: Config) -> Iterator[Config]:
    """Yield the files that a config was put together from, itself left out, the nearest first.

    Its text holds them all, each below its path, bases before what is laid over them.
    """
    files = [line for line in config.text.splitlines() if line.endswith('.py') and Path(line).is_file()]
    for file in reversed(files[:-1]):
        yield Config.fromfile(file, import_custom_modules=False, format_python_code=False)

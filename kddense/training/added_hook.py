"""What hooks have in common that a config adds to those of the student."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from kddense.registry import SCOPE

from .joint_optim_constructor import check_schedules


class AddedHook(Hook):
    """Stops a run whose ``custom_hooks`` were written for kddense alone, and replaced the student's.

    mmengine replaces lists and merges dicts: in ``default_hooks``, under a name of its own, a hook replaces nothing.
    """

    def before_run(self, runner: Runner) -> None:
        """Check what stands beside this hook.

        Raises:
            ValueError: If hooks of the student are gone, or schedules have names that no optimiser has.
        """
        check_schedules(runner.cfg)
        gone = replaced_hooks(runner.cfg)
        if gone:
            kind = f'{SCOPE}{type(self).__name__}'
            raise ValueError(
                f'custom_hooks: this list replaces that of the base config, and {", ".join(gone)} with it: write '
                f"default_hooks = dict(added=dict(type='{kind}', …)), which replaces nothing, or list them all"
            )


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

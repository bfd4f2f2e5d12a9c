"""The two configs of a distillation: ``plain.py``, the student's training, and ``distilled.py``, the same with a teacher."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

PLAIN, DISTILLED = 'plain.py', 'distilled.py'
OF_THE_DISTILLER = ('model.teacher.', 'model.objectives.', 'model.task_weights.')
WIDTH = 100
JOINT = 'kddense.JointOptimWrapperConstructor'


class Expression(str):
    """Python that is written as it is."""


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which changes are to the student's training, and which to the distiller."""
    of_distiller = {key: value for key, value in options.items() if key.startswith(OF_THE_DISTILLER)}
    return {key: value for key, value in options.items() if key not in of_distiller}, of_distiller


def plain_text(source: str, config: Config, options: Mapping[str, Any], seed: int) -> str:
    """Return the config of the student's own training.

    Args:
        source: The student's config: an absolute path, or ``'package::path'``.
        config: What it holds, with the changes.
        options: The changes, by key.
        seed: Of the random numbers.
    """
    changes: dict[str, Any] = {}
    for key in options:
        _lay(changes, key.split('.'), config)
    changes.setdefault('randomness', {})['seed'] = seed
    lines = [f'{key} = {written(value)}' for key, value in changes.items()]
    return '\n'.join(
        [f'"""The training of the student of {source}, without a teacher."""', '', f'_base_ = {source!r}', *lines, '']
    )


def distilled_text(
    config: Config, teacher: Mapping[str, Any], recipe: str, settings: Config, options: Mapping[str, Any]
) -> str:
    """Return the config that distils, which lies beside ``plain.py``.

    Args:
        config: What ``plain.py`` holds.
        teacher: The arguments of the teacher.
        recipe: The name of the recipe.
        settings: What the recipe holds: ``objectives``, and ``joint_optim_wrapper`` if it needs one.
        options: Changes to the distiller, by key.
    """
    distiller = Config(dict(model=dict(teacher=dict(teacher), objectives=settings.objectives.to_dict())))
    distiller.merge_from_dict(dict(options))
    model = dict(
        _delete_=True, type='kddense.Distiller', student=Expression('_base_.model'), **distiller.model.to_dict()
    )
    parts: dict[str, Any] = {}
    imports = _imports(config)
    if imports is not None:
        parts['custom_imports'] = imports
    parts['model'] = model
    if settings.get('joint_optim_wrapper'):
        parts['optim_wrapper'] = _joint(config, settings.joint_optim_wrapper.to_dict())
    parts['default_hooks'] = dict(random_state=dict(type='kddense.RandomStateHook'))
    lines = [f'{key} = {written(value)}' for key, value in parts.items()]
    return '\n'.join(
        [f'"""The same training with a teacher, by the recipe {recipe}."""', '', f"_base_ = './{PLAIN}'", *lines, '']
    )


def written(value: Any, indent: str = '') -> str:
    """Return a value as Python, as configs are written: ``dict(key=value)``, broken into lines where it is long."""
    if isinstance(value, Expression):
        return str(value)
    if isinstance(value, Mapping):
        named = all(isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key) for key in value)
        deeper = indent + '    '
        items = [
            f'{key if named else repr(key)}{"=" if named else ": "}{written(one, deeper)}' for key, one in value.items()
        ]
        begin, end = ('dict(', ')') if named else ('{', '}')
    elif isinstance(value, (list, tuple)):
        deeper = indent + '    '
        items = [written(one, deeper) for one in value]
        begin, end = '[]' if isinstance(value, list) else '()'
        if isinstance(value, tuple) and len(items) == 1:
            return f'({items[0]},)'
    else:
        return repr(value)
    line = f'{begin}{", ".join(items)}{end}'
    if len(indent) + len(line) <= WIDTH and '\n' not in line:
        return line
    return '\n'.join([begin, *(f'{deeper}{item},' for item in items), f'{indent}{end}'])


def _lay(changes: dict[str, Any], path: list[str], config: Any) -> None:
    """Put the value at ``path`` of a config into ``changes``, down to the first list: lists are written as a whole."""
    for depth, key in enumerate(path):
        config = config[key]
        if depth == len(path) - 1 or not isinstance(config, Mapping):
            changes[key] = config.to_dict() if isinstance(config, ConfigDict) else config
            return
        changes = changes.setdefault(key, {})


def _imports(config: Config) -> dict[str, Any] | None:
    """Return the student's imports and ours, ``None`` if it imports kddense already."""
    own = config.get('custom_imports') or {}
    names = own.get('imports') or []
    names = [names] if isinstance(names, str) else list(names)
    if 'kddense' in names:
        return None
    return dict(imports=[*names, 'kddense'], allow_failed_imports=own.get('allow_failed_imports', False))


def _joint(config: Config, joint: dict[str, Any]) -> dict[str, Any]:
    own = config.optim_wrapper.get('constructor')
    return {**joint, 'student_constructor': own} if own and own != JOINT else joint


def read_recipe(name: str) -> Config:
    """Return what a recipe holds.

    Args:
        name: Its name, or the path of a file.

    Raises:
        ValueError: If there is none, or it holds no objectives.
    """
    file = Path(name) if name.endswith('.py') else recipes() / f'{name}.py'
    if not file.is_file():
        names = ', '.join(sorted(path.stem for path in recipes().glob('*.py')))
        raise ValueError(f"there is no recipe '{name}', only {names}, or the path of one of your own, *.py")
    settings = Config.fromfile(file)
    if not settings.get('objectives'):
        raise ValueError(f'the recipe {file} holds no objectives')
    return settings


def recipes() -> Path:
    """Return the folder of the recipes that kddense brings."""
    return (Path(__file__).parents[2] / '.mim' / 'configs' / '_base_' / 'recipes').resolve()

"""The two configs of a distillation: ``plain.py``, the student's training, and ``distilled.py``, the same with a teacher."""

from __future__ import annotations

import keyword
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from kddense import configs

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


@dataclass(frozen=True)
class Style:
    """How configs inherit: by ``_base_``, or in mmengine's new style, whose types are classes, by ``read_base``.

    Attributes:
        is_new: Whether it is the new style.
    """

    is_new: bool

    @classmethod
    def of(cls, source: str) -> Style:
        """Return the style of a config: a path, or ``'package::path'``."""
        return cls('::' not in source and Config._is_lazy_import(source))

    def inherits(self, source: str, folder: Path) -> str:
        """Return the lines by which a config in ``folder`` inherits from another."""
        if not self.is_new:
            return f'_base_ = {source!r}'
        return (
            f'from mmengine.config import read_base\n\nwith read_base():\n    from {_module(source, folder)} import *\n'
        )

    def change(self, key: str, value: Any, config: Config) -> str:
        """Return the line that lays a value over one of a config."""
        if self.is_new and isinstance(value, Mapping) and isinstance(config.get(key), Mapping):
            return f'{key}.update({written(value)})'
        return f'{key} = {written(value)}'


def plain_text(source: str, config: Config, options: Mapping[str, Any], seed: int, folder: Path) -> str:
    """Return the config of the student's own training.

    Args:
        source: The student's config: an absolute path, or ``'package::path'``.
        config: What it holds, with the changes.
        options: The changes, by key.
        seed: Of the random numbers.
        folder: Where it will lie.
    """
    style = Style.of(source)
    changes: dict[str, Any] = {}
    for key in options:
        _lay(changes, key.split('.'), config)
    changes.setdefault('randomness', {})['seed'] = seed
    lines = [style.change(key, value, config) for key, value in changes.items()]
    title = f'"""The training of the student of {source}, without a teacher."""'
    return '\n'.join([title, '', style.inherits(source, folder), *lines, ''])


def distilled_text(
    style: Style,
    config: Config,
    recipe: str,
    teacher: Mapping[str, Any],
    options: Mapping[str, Any],
    changes: Mapping[str, Any],
    unlabelled: Sequence[str] = (),
) -> str:
    """Return the config that distils, which lies beside ``plain.py``.

    Args:
        style: How the student's config inherits.
        config: What ``plain.py`` holds.
        recipe: The name or the path of the recipe.
        teacher: The arguments of the teacher.
        options: Changes to the distiller, by key.
        changes: To the recipe's objectives, by their names, that the two models need; others are added.
        unlabelled: Where images without labels lie, as many of which stand in each batch.
    """
    distiller = Config(dict(model=dict(teacher=dict(teacher), objectives=dict(changes))))
    distiller.merge_from_dict(dict(options))
    arguments = distiller.model.to_dict()
    settings = read_recipe(recipe)
    if settings.get('distiller', {}).get('task_weights'):
        arguments.setdefault('task_weights', settings.distiller.task_weights.to_dict())
    write = _in_new_style if style.is_new else _in_old_style
    lines = write(config, recipe, settings, arguments)
    if settings.get('joint_optim_wrapper'):
        lines.append(style.change('optim_wrapper', _joint(config, settings, style), config))
    hooks: dict[str, Any] = dict(random_state=dict(type='kddense.RandomStateHook'))
    for name in ('rest', 'quantise'):
        if settings.get(name):
            hooks[name] = settings[name].to_dict()
    if unlabelled:
        images = dict(type='kddense.UnlabelledImages', images=list(unlabelled))
        hooks['unlabelled'] = dict(type='kddense.UnlabelledImagesHook', ratio=1, dataset=images)
    lines.append(style.change('default_hooks', hooks, config))
    return '\n'.join([f'"""The same training with a teacher, by the recipe {recipe}."""', '', *lines, ''])


def _in_old_style(config: Config, recipe: str, settings: Config, arguments: dict[str, Any]) -> list[str]:
    """Return the lines that put a distiller in the student's place; the recipe is a base."""
    changes = arguments.pop('objectives')
    lines = [f'_base_ = {written([f"./{PLAIN}", recipe_source(recipe)])}']
    imports = _imports(config)
    if imports is not None:
        lines.append(f'custom_imports = {written(imports)}')
    if changes:
        lines.append(f'_base_.objectives.merge({written(changes)})')
    model = dict(_delete_=True, type='kddense.Distiller', student=Expression('_base_.model'), **arguments)
    lines.append(f'model = {written(dict(model, objectives=Expression("_base_.objectives")))}')
    return lines


def _in_new_style(config: Config, recipe: str, settings: Config, arguments: dict[str, Any]) -> list[str]:
    """Return the same lines where recipes, of the other style, cannot be bases."""
    objectives = Config(dict(objectives=settings.objectives.to_dict()))
    objectives.merge_from_dict(dict(objectives=arguments.pop('objectives')))
    model = dict(type=Expression('Distiller'), student=Expression('model'), **arguments, **objectives.to_dict())
    inherits = Style(is_new=True).inherits(PLAIN, Path())
    return [inherits, 'from kddense import Distiller', '', f'model = {written(model)}']


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
    elif isinstance(value, type):
        raise ValueError(
            f'{value.__name__} is a class, which cannot be written: make this change in a config of your own'
        )
    else:
        return repr(value)
    line = f'{begin}{", ".join(items)}{end}'
    if len(indent) + len(line) <= WIDTH and '\n' not in line:
        return line
    return '\n'.join([begin, *(f'{deeper}{item},' for item in items), f'{indent}{end}'])


def _module(source: str, folder: Path) -> str:
    """Return the relative module by which a config in ``folder`` imports another of the new style.

    Raises:
        ValueError: If a folder between the two has a name that Python cannot import.
    """
    path = Path(source).with_suffix('')
    parts = (Path('.') / path if not path.is_absolute() else Path(os.path.relpath(path, folder.absolute()))).parts
    names = [part for part in parts if part != '..']
    if not all(name.isidentifier() for name in names):
        raise ValueError(
            f"{source} is of mmengine's new style, and cannot be imported from {folder}: {'/'.join(names)} has names that "
            'Python cannot import; choose a --work-dir beside it'
        )
    return '.' * (1 + len(parts) - len(names)) + '.'.join(names)


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


def _joint(config: Config, settings: Config, style: Style) -> Any:
    """Return the recipe's optimiser for what it trains besides the student; the student's own constructor stays."""
    own = config.optim_wrapper.get('constructor')
    kept = dict(student_constructor=own) if own and own != JOINT else {}
    if style.is_new:
        return {**kept, **settings.joint_optim_wrapper.to_dict()}
    base = '_base_.joint_optim_wrapper'
    return Expression(f'dict(student_constructor={own!r}, **{base})' if kept else base)


def read_recipe(recipe: str) -> Config:
    """Return what a recipe holds.

    Args:
        recipe: Its name, or the path of a file.

    Raises:
        ValueError: If there is none, or it holds no objectives.
    """
    if not recipe.endswith('.py'):
        return configs.read_recipe(recipe)
    if not Path(recipe).is_file():
        raise ValueError(f"there is no recipe '{recipe}'")
    settings = Config.fromfile(recipe)
    if not settings.get('objectives'):
        raise ValueError(f'the recipe {recipe} holds no objectives')
    return settings


def recipe_source(recipe: str) -> str:
    """Return what a config inherits from to follow a recipe."""
    return str(Path(recipe).absolute()) if recipe.endswith('.py') else f'kddense::_base_/recipes/{recipe}.py'

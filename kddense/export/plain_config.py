"""The student's own config: that of a run without the teacher, and without kddense as far as the student allows it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from kddense.configs import is_distiller, plain_model, teachers_in
from kddense.datasets import TEACHER_IMAGE
from kddense.registry import SCOPE, find, plain_of

from .custom_imports import builds_on_kddense, is_kddense, names_defined_in
from .errors import first_sentence

# How a run came to be and where it was kept, which says nothing of the student.
FACTS_OF_A_RUN = ('work_dir', 'load_from', 'resume', 'launcher', 'experiment_name')
WRAPPED = ('dataloader.dataset', 'dataloader.sampler')
SHARDING = ('strategy', 'runner_type')
KNOWN_SETTINGS = inspect.signature(Runner.__init__).parameters.keys() | {'custom_imports', 'default_scope'}


@dataclass(frozen=True)
class PlainConfig:
    """The student's own config.

    Attributes:
        settings: The config as a dictionary.
        dropped: What was taken out or replaced, a phrase each.
        needs: What of kddense the student still needs, with its place in the config.
    """

    settings: dict[str, Any]
    dropped: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Config) -> PlainConfig:
        """Return the config of the plain student, as its training without a teacher would have had it.

        Args:
            config: The config of a run, with a :class:`kddense.Distiller` or without.

        Raises:
            ValueError: If it holds no model.
        """
        settings = {key: value for key, value in config.to_dict().items() if key not in FACTS_OF_A_RUN}
        trained = settings.get('model')
        if not isinstance(trained, dict) or 'type' not in trained:
            raise ValueError('the config holds no model: it needs a `model` dict with a `type`')
        dropped: list[str] = []
        settings['model'] = plain_model(settings)
        _give_back_optimizer(settings, dropped)
        settings = _without_kddense(settings, dropped)
        parts = []
        if is_distiller(trained):
            parts = _parts_of_distiller(trained)
            settings = _without_meta_keys(settings, {one.get('image') for one in _all_teachers(trained)})
        settings = {key: value for key, value in settings.items() if not _is_only_for_distilling(key, value, parts)}
        needs = [f'{name} in {place}' for place, name in _names_of_kddense(settings)]
        needs = needs or _clear_imports(settings, dropped)
        return cls(settings, tuple(dict.fromkeys(dropped)), tuple(dict.fromkeys(needs)))

    def text(self) -> str:
        """Return it as mmengine writes configs.

        Raises:
            ValueError: If it has a value that cannot be written so.
        """
        try:
            return Config(self.settings).pretty_text
        except SyntaxError as error:
            raise ValueError(f'the config cannot be written as text: {first_sentence(error)}') from error

    def write(self, file: Path) -> None:
        """Write it, and read it back.

        Raises:
            ValueError: If it would not be read as it is.
        """
        file.write_text(self.text())
        try:
            read = Config.fromfile(file, import_custom_modules=False).to_dict()
        except Exception as error:  # it is run, which may fail in any way
            raise ValueError(f'the config cannot be written as text: {first_sentence(error)}') from error
        differing = [key for key, value in self.settings.items() if read.get(key) != value]
        if differing:
            raise ValueError(f'the config cannot be written as text: {", ".join(differing)} would not be read as it is')


def _give_back_optimizer(settings: dict[str, Any], dropped: list[str]) -> None:
    """Take out a constructor of kddense, with what it says of itself; by default its key alone."""
    wrapper = settings.get('optim_wrapper') or {}
    constructor = str(wrapper.get('constructor'))
    if not constructor.startswith(SCOPE):
        return
    dropped.append(f'{constructor} (the student keeps its own optimiser)')
    plain_settings = getattr(find(constructor), 'plain_settings', None)
    if plain_settings is not None:
        settings.update(plain_settings(settings))
    else:
        settings['optim_wrapper'] = {key: value for key, value in wrapper.items() if key != 'constructor'}


def _without_kddense(settings: Mapping[str, Any], dropped: list[str]) -> dict[str, Any]:
    """Copy a config without what kddense added to it; the model is left, and metrics if the model needs kddense anyway."""
    needs_kddense = bool(_names_of_kddense(settings['model']))
    cleared = {}
    if _is_ours(settings.get('strategy')):
        dropped.append(f'{settings["strategy"]["type"]} (each process has the whole student)')
        settings = {key: value for key, value in settings.items() if key not in SHARDING}
    for key, value in settings.items():
        is_metric = key.endswith('_evaluator')
        if key == 'model' or (is_metric and needs_kddense):
            cleared[key] = value
        else:
            cleared[key] = _cleared([value] if is_metric and _is_ours(value) else value, key, dropped)
    if not cleared.get('custom_hooks'):
        cleared.pop('custom_hooks', None)
    return cleared


def _cleared(value: Any, place: str, dropped: list[str]) -> Any:
    """Copy a setting without what kddense added to its lists, and to the default hooks."""
    if isinstance(value, (list, tuple)):
        items = [item for item in value if item != TEACHER_IMAGE]
        return type(value)([new for item in items for new in _substitutes(item, place, dropped)])
    if not isinstance(value, dict):
        return value
    if place == 'default_hooks':
        return {key: new for key, item in value.items() for new in _substitutes(item, place, dropped)}
    return {
        key: _cleared(_unwrapped(item, f'{place}.{key}', dropped), f'{place}.{key}', dropped)
        for key, item in value.items()
    }


def _unwrapped(item: Any, place: str, dropped: list[str]) -> Any:
    """Return the data set or the sampler that stands in the place of one of kddense."""
    if not (place.endswith(WRAPPED) and _is_ours(item)):
        return item
    (plain,) = _substitutes(item, place, dropped)
    return plain


def _without_meta_keys(value: Any, keys: set[Any], is_list: bool = False) -> Any:
    """Copy a setting without ``keys`` in the lists that are called ``meta_keys``: images that a teacher is given."""
    if isinstance(value, dict):
        return {name: _without_meta_keys(item, keys, name == 'meta_keys') for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_meta_keys(item, keys) for item in value if not is_list or item not in keys)
    return value


def _substitutes(item: Any, place: str, dropped: list[str]) -> list[Any]:
    """Return what stands in an item's place: itself, something of the stock libraries, or nothing."""
    if not _is_ours(item):
        return [_cleared(item, place, dropped)]
    plain = plain_of(item, place)
    if plain.items == (item,):
        return [item]
    instead = f'{", ".join(one["type"] for one in plain.items)} in its place' if plain.items else ''
    reason = ', '.join(part for part in (instead, plain.note) if part)
    dropped.append(f'{item["type"]} ({reason})' if reason else item['type'])
    return [dict(one) for one in plain.items]


def _is_ours(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get('type')).startswith(SCOPE)


def _parts_of_distiller(distiller: Mapping[str, Any]) -> list[Any]:
    """Return what a config may keep in variables beside the model: student, teacher, its files, objectives."""
    teachers = _all_teachers(distiller)
    files = [one.get(key) for one in teachers for key in ('config', 'checkpoint', 'module')]
    parts = [*(distiller.get(key) for key in ('student', 'teacher', 'objectives')), *teachers, *files]
    return [part for part in parts if part]


def _all_teachers(distiller: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the configs of all teachers, and of those that they are made of."""
    teachers = list(teachers_in(distiller).values())
    return teachers + [member for one in teachers for member in one.get('members') or ()]


def _is_only_for_distilling(key: str, value: Any, parts: Sequence[Any]) -> bool:
    if key in KNOWN_SETTINGS or key.endswith('pipeline'):
        return False
    return value in parts or bool(_names_of_kddense(value))


def _clear_imports(settings: dict[str, Any], dropped: list[str]) -> list[str]:
    """Take kddense, and modules that build on it, out of ``custom_imports``; return those that must stay after all."""
    imports = (settings.get('custom_imports') or {}).get('imports') or []
    names = [imports] if isinstance(imports, str) else list(imports)
    building_on_it = [name for name in names if builds_on_kddense(name)]
    types = {str(leaf).rpartition('.')[2] for place, leaf in _leaves(settings) if place.endswith('.type')}
    needed = [name for name in building_on_it if types & names_defined_in(name)]
    if needed:
        return [f'{name} in custom_imports' for name in needed]
    dropped += [f'{name} (custom_imports)' for name in building_on_it]
    kept = [name for name in names if name not in building_on_it and not is_kddense(name)]
    if kept:
        settings['custom_imports']['imports'] = kept
    else:
        settings.pop('custom_imports', None)
    return []


def _names_of_kddense(value: Any) -> list[tuple[str, str]]:
    """Return what of kddense is named in a setting, as pairs of place and name."""
    return [
        (place.rpartition('.')[0], leaf)
        for place, leaf in _leaves(value)
        if isinstance(leaf, str) and leaf.startswith(SCOPE) and not place.startswith('custom_imports.')
    ]


def _leaves(value: Any, place: str = '') -> Iterator[tuple[str, Any]]:
    """Yield what a setting is made of in the end, with its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f'{place}.{key}' if place else str(key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item, place)
    else:
        yield place, value

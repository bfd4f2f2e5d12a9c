"""Reading configs: the model that one is for, the scope it is written in, the packages it needs, its classes."""

from __future__ import annotations

import ast
import difflib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmengine.hub import get_config
from mmengine.registry import DATASETS, DefaultScope
from mmengine.utils import get_object_from_string

from kddense.errors import ConfigError, sentence_of
from kddense.registry import name_of
from kddense.taps import nearest

EXTRAS = {'mmdet': 'detection', 'mmseg': 'segmentation'}  # which of kddense's extras installs a library

CONFIGS = Path(__file__).parent / '.mim/configs'  # of the package: recipes, configs and what was measured with them


def is_distiller(model: Mapping[str, Any]) -> bool:
    """Tell whether the config of a model is one of :class:`kddense.Distiller`."""
    return name_of(model['type']) == 'Distiller'


def plain_model(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of the model that a whole config is for: of a distillation, its student without a teacher.

    Its data preprocessor comes along from where mmengine and :class:`kddense.Distiller` would pass it in.
    """
    model = dict(config['model'])
    preprocessor = model.get('data_preprocessor') or config.get('data_preprocessor')
    if is_distiller(model):
        model = dict(model['student'])
    if preprocessor:
        model.setdefault('data_preprocessor', preprocessor)
    return model


def teachers_in(model: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the configs of the teachers in the config of a :class:`kddense.Distiller`, by name."""
    config = model.get('teacher') or {}
    if not {'type', 'config', 'checkpoint'} & config.keys():
        return dict(config)
    return {'teacher': config}


def current_scope() -> str | None:
    """Return the default scope that the runner has set, if any."""
    current = DefaultScope.get_current_instance()
    return current.scope_name if current is not None else None


def recipe_names() -> list[str]:
    """Return the names of all recipes that kddense brings."""
    return sorted(path.stem for path in _recipes().glob('*.py'))


def read_recipe(name: str) -> Config:
    """Return a recipe by its name, such as ``'chen2017'``.

    Raises:
        ValueError: If there is none.
    """
    known = recipe_names()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f'did you mean {close[0]!r}?' if close else f'only {", ".join(known)}'
        raise ValueError(f"there is no recipe '{name}'; {hint}")
    return Config.fromfile(_recipes() / f'{name}.py')


def _recipes() -> Path:
    return CONFIGS / '_base_/recipes'


def read_config(config: str | Path | Config | Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return what a ``config`` stands for.

    Args:
        config: ``'package::path'``, the path of a file, or what such a file holds.
        name: The key that messages name, such as ``'teacher'`` for ``teacher.config``.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If its package is not installed.
    """
    if isinstance(config, (Config, Mapping)):
        return config
    package, separator, _ = str(config).partition('::')
    if not separator:
        return read_config_file(config, f'{name}.config')
    require_package(package, f"{name}.config '{config}'")
    try:
        return _read_again_if_miscounted(get_config, str(config))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name}.config '{config}': {error}") from error
    except Exception as error:  # a config is code, which may fail in any way
        raise ConfigError(f"'{config}' cannot be read: {_told(error)}", f'{name}.config') from error


def read_config_file(file: str | Path, key: str = '') -> Config:
    """Read a config from a file.

    Args:
        file: Its path.
        key: What messages begin with: the config key or the argument that names the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If it cannot be read.
    """
    path = Path(file)
    if path.is_dir():
        raise ConfigError(f": '{file}' is a folder, not a config", key)
    if not path.is_file():
        beside = [str(one) for one in path.parent.glob('*.py')] if path.parent.is_dir() else []
        begin = f'{key}: ' if key else ''
        raise FileNotFoundError(f"{begin}there is no file '{file}'{nearest(str(file), beside)}")
    try:
        return _read_again_if_miscounted(Config.fromfile, file)
    except Exception as error:  # a config is code, which may fail in any way
        raise ConfigError(f": '{file}' cannot be read: {_told(error)}", key) from error


def _read_again_if_miscounted(read: Callable[[Any], Config], file: str | Path) -> Config:
    try:
        return read(file)
    except SystemError:  # CPython before 3.11.8 miscounts where two threads parse at once (its issue 106905)
        return read(file)


def let_types_be_found(config: Any) -> None:
    """Change the types of a config, or of a part of one, that mmengine would not find, to such as it finds.

    A config of the new style is dumped with the paths of its classes. Where a module has the name of a function beside
    it, as that of mmdet's ``L1Loss`` has, mmengine does not find the class by its path, but by its scope and name.
    """
    if isinstance(config, (list, tuple)):
        for item in config:
            let_types_be_found(item)
    if not isinstance(config, (Mapping, Config)):
        return
    kind: Any = config.get('type')
    if isinstance(kind, str) and kind.count('.') > 1 and get_object_from_string(kind) is None:
        config['type'] = f'{kind.partition(".")[0]}.{name_of(kind)}'  # type: ignore[index]
    for value in config.values():
        let_types_be_found(value)


def _told(error: Exception) -> str:
    """Return an error of a config, which is code, in one sentence; that of a file is its own."""
    kind = type(error).__name__
    return sentence_of(error) if isinstance(error, (OSError, ImportError)) else f'{sentence_of(error)} ({kind})'


def find_config(config: str) -> str:
    """Return the path of a config's file.

    Args:
        config: ``'package::path'``, or a path already.

    Raises:
        FileNotFoundError: If the package has no such config.
        ImportError: If the package is not installed.
    """
    package, separator, _ = config.partition('::')
    if not separator:
        return config
    require_package(package, f"'{config}'")
    try:
        return Config._get_cfg_path(config, '')[0]
    except (FileNotFoundError, ValueError):
        raise FileNotFoundError(f"there is no config '{config}' in the installed {package}") from None


def require_library(model: Mapping[str, Any], scope: str | None, what: str) -> None:
    """Raise an ImportError that says what to install, if the library that a model's config is written for is absent."""
    package, dot, _ = str(model['type']).partition('.')
    library = package if dot else scope
    if library in EXTRAS:
        require_package(library, what)


def require_package(package: str, what: str) -> None:
    """Raise an ImportError that says what to install, if ``package`` is absent."""
    if importlib.util.find_spec(package) is None:
        if package not in EXTRAS:
            known = ('kddense', *EXTRAS)
            raise ImportError(
                f"{what} names the package '{package}', which is not there{nearest(package, known)}: write one of "
                f'{", ".join(known)} before the `::`, or install what provides {package}'
            )
        raise ImportError(f"{what} needs {package}, which is not installed: pip install 'kddense[{EXTRAS[package]}]'")


def classes_of(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the classes that a whole config is trained on, if it says."""
    dataset = innermost_dataset((config.get('train_dataloader') or {}).get('dataset') or {}, 'metainfo')
    return class_names((dataset.get('metainfo') or {}).get('classes'))


def innermost_dataset(dataset: Any, key: str = 'pipeline') -> Any:
    """Return the config of the data set, or of the first, that wrappers stand around.

    Args:
        dataset: The outermost config.
        key: What has this key is taken for the innermost.
    """
    while key not in dataset and ('dataset' in dataset or dataset.get('datasets')):
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset


def class_names(classes: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the names of classes that a data set or checkpoint gives, ``None`` if they are not known.

    As in mmengine, a text is the path of a file with one name on each line.
    """
    if isinstance(classes, str):
        return tuple(list_from_file(classes)) if Path(classes).is_file() else None
    return None if classes is None else tuple(classes)


def training_set_size(config: str | None) -> int | None:
    """Return the number of images that a run trains on, ``None`` if its config tells of no data set with a length.

    Args:
        config: The text of the run's config, ``None`` if there is none. From the runner, never out of a checkpoint: the data
            set that it names is built.
    """
    dataset = _training_set(config)
    return len(dataset) if hasattr(dataset, '__len__') else None


def training_set_boxes(config: str | None) -> int | None:
    """Return the number of ground-truth boxes that a run of a detector trains on, ``None`` if its data set does not tell.

    Args:
        config: The text of the run's config, ``None`` if there is none.
    """
    dataset = _training_set(config)
    if not hasattr(dataset, 'get_data_info') or not hasattr(dataset, '__len__'):
        return None
    return sum(len(dataset.get_data_info(index).get('instances', ())) for index in range(len(dataset)))


def _training_set(config: str | None) -> Any:
    """Build the data set of a run without its pipelines; ``None`` if its config tells of none."""
    whole = config_from_text(config) if config else {}
    dataset = (whole.get('train_dataloader') or {}).get('dataset')
    if not isinstance(dataset, Mapping):
        return None
    with DefaultScope.overwrite_default_scope(whole.get('default_scope', 'mmengine')):
        return DATASETS.build(_without_pipeline(dataset))


def _without_pipeline(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {key: [] if key == 'pipeline' else _without_pipeline(value) for key, value in config.items()}
    return [_without_pipeline(one) for one in config] if isinstance(config, list) else config


def config_from_text(text: str) -> Config:
    """Read what mmengine writes of a config into a checkpoint, as data: nothing of it is run.

    Args:
        text: Assignments of literals and of ``dict(...)``.

    Raises:
        ValueError: If there is anything else in it.
    """
    settings = {}
    try:
        for statement in ast.parse(text).body:
            if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
                raise ValueError(f'line {statement.lineno} is no assignment')
            settings[statement.targets[0].id] = ast.literal_eval(_DictsAsLiterals().visit(statement.value))
        return Config(settings)
    except (SyntaxError, ValueError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError(f'it is not plain data: {error}') from error


class _DictsAsLiterals(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        names = [keyword.arg for keyword in node.keywords]
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or None in names:
            return node  # which literal_eval refuses
        first = node.args[0] if node.args else ast.Dict([], [])  # dict({'.*': 0.5}), as mmengine writes what is no name
        if len(node.args) > 1 or not isinstance(first, ast.Dict):
            return node
        keys = [*first.keys, *(ast.Constant(name) for name in names)]
        return ast.Dict(keys, [*first.values, *(keyword.value for keyword in node.keywords)])

"""The plain student out of a run: a checkpoint and a config for stock mmdet and mmseg, and an ONNX file for the rest."""

from __future__ import annotations

import ast
import copy
import importlib.util
import inspect
import json
import os
import re
import sys
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings, to_2tuple
from torch import Tensor, nn

from kddense.compat import load_checkpoint
from kddense.pixels import PixelFormat
from kddense.random_state import forked_random_state
from kddense.registry import MODELS
from kddense.teacher import is_distiller, require_library
from kddense.views.base import is_a
from kddense.visualization import Run, read_run

OURS = 'kddense.'
TEACHERS_IMAGE = 'teacher_img'
# How a run came to be and where it was kept, which says nothing of the student.
FACTS_OF_A_RUN = ('work_dir', 'load_from', 'resume', 'launcher', 'experiment_name')
KEPT_META = ('epoch', 'iter', 'mmengine_version', 'dataset_meta')
KNOWN_SETTINGS = inspect.signature(Runner.__init__).parameters.keys() | {'custom_imports', 'default_scope'}

ONNX_PACKAGES = ('onnx', 'onnxruntime')
OPSET = 17  # the newest of PyTorch 2.1
TOLERANCE = 1e-3
# From the most useful file to the one that is better than none.
DYNAMIC_AXES: tuple[dict[int, str], ...] = ({0: 'batch', 2: 'height', 3: 'width'}, {0: 'batch'}, {})


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


@dataclass(frozen=True)
class OnnxReport:
    """What was found out about an ONNX file.

    Attributes:
        outputs: Names of its outputs.
        dynamic: Which of ``'batch'``, ``'height'`` and ``'width'`` may vary.
        size: Height and width of the images that it was exported with.
        difference: The greatest difference from PyTorch on random images, relative to the greatest value of an output.
        limit: Why no more of the input may vary; empty if all of it may.
    """

    outputs: tuple[str, ...]
    dynamic: tuple[str, ...]
    size: tuple[int, int]
    difference: float
    limit: str = ''


@dataclass(frozen=True)
class Exported:
    """What :func:`export_student` wrote.

    Attributes:
        source: The checkpoint that the weights are from.
        files: The files written.
        notes: What is worth knowing, a sentence each.
        onnx: What was found out about the ONNX file, if there is one.
    """

    source: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...]
    onnx: OnnxReport | None = None


def export_student(
    source: str | Path,
    out: str | Path,
    config: str | Path | None = None,
    ema: bool = False,
    onnx: bool = False,
    shape: Sequence[int] | None = None,
    force: bool = False,
    trust_checkpoint: bool = False,
) -> Exported:
    """Write the student of a run as if there had never been a teacher: weights, config, and if asked for ONNX.

    Everything is written aside, checked, and only then moved to its place.

    Args:
        source: A work_dir, whose last checkpoint is taken, or a checkpoint.
        out: The checkpoint to write, ``*.pth``; the config goes beside it as ``*.py``, ONNX as ``*.onnx``.
        config: The config of the run, or the plain student's. By default a work_dir's own; a checkpoint's is the one in
            its meta, by which it was trained, or else the file beside it with its name.
        ema: Export the averaged weights of mmengine's ``EMAHook`` in place of the trained ones.
        onnx: Also write an ONNX file, and compare it with PyTorch on random images.
        shape: Height and width of the images for that; by default what the config crops or resizes to.
        force: Overwrite earlier exports.
        trust_checkpoint: Load a checkpoint that holds pickled code. Only for files whose source you trust.

    Returns:
        The files written and what is worth knowing about them.

    Raises:
        ValueError: If config, checkpoint and options do not fit together.
        FileNotFoundError: If there is no such work_dir or file, or no checkpoint in it.
        FileExistsError: If a file would be overwritten.
        OSError: If the target cannot be written to.
        ImportError: If ONNX is asked for and its packages are not installed.
        RuntimeError: If the student cannot be exported to ONNX, or the file gives other values than PyTorch.
    """
    source, out = Path(source), Path(out)
    targets = _targets(out, onnx)
    _check_targets(targets, force)
    if onnx:
        _require_onnx()
    run = read_run(source, str(source)) if source.is_dir() else None
    checkpoint = _find_checkpoint(source, run)
    contents = load_checkpoint(checkpoint, trust_checkpoint)
    origin, run_config = _find_config(run, checkpoint, contents, config)
    _check_no_input_is_lost(targets, checkpoint, origin)
    plain = plain_config(run_config)
    text = _as_text(plain.settings)
    size = _example_size(plain.settings, shape) if onnx else None
    student = _build(plain.settings, origin)
    _load(student, _chosen_weights(contents, ema, checkpoint), f'{checkpoint} does not fit the config {origin}')
    meta = _plain_meta(contents, text)

    report = None
    with _staging(out.parent) as folder:
        staged = {target: folder / target.name for target in targets}
        torch.save(dict(meta=meta, state_dict=student.state_dict()), staged[targets[0]])
        staged[targets[1]].write_text(text)
        _check_config_text(staged[targets[1]], plain.settings)
        if size is not None:
            report = _write_onnx(student, staged[targets[2]], size, meta)
        for target, file in staged.items():
            os.replace(file, target)
    return Exported(checkpoint, targets, tuple(_notes(plain, contents, ema, targets)), report)


def plain_config(config: Config) -> PlainConfig:
    """Return the config of the plain student, as its training without a teacher would have had it.

    Args:
        config: The config of a run, with a :class:`kddense.Distiller` or without.

    Returns:
        The student's config, without kddense unless parts of the student are kddense's.

    Raises:
        ValueError: If it holds no model.
    """
    settings = {key: value for key, value in config.to_dict().items() if key not in FACTS_OF_A_RUN}
    model = settings.get('model')
    if not isinstance(model, dict) or 'type' not in model:
        raise ValueError('the config holds no model: it needs a `model` dict with a `type`')
    distiller = model if is_distiller(model) else {}
    settings['model'] = dict(distiller.get('student', model))
    if settings.get('data_preprocessor'):  # stock init_detector and init_model look for it in the model alone
        settings['model'].setdefault('data_preprocessor', settings['data_preprocessor'])

    dropped: list[str] = []
    _give_back_optimizer(settings, dropped)
    keeps_metrics = bool(_kddense_types(settings['model']))
    for key, value in settings.items():
        is_metric = key.endswith('_evaluator')
        if key == 'model' or (is_metric and keeps_metrics):
            continue
        settings[key] = _without_kddense([value] if is_metric and _is_ours(value) else value, key, dropped)
    if not settings.get('custom_hooks'):
        settings.pop('custom_hooks', None)
    parts = _distillers_parts(distiller)
    settings = {key: value for key, value in settings.items() if not _is_only_for_distilling(key, value, parts)}
    needs = [f'{name} in {where}' for where, name in _kddense_types(settings)]
    needs += _plain_imports(settings, bool(needs), dropped)
    return PlainConfig(settings, tuple(dict.fromkeys(dropped)), tuple(dict.fromkeys(needs)))


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
    except (SyntaxError, ValueError, TypeError) as error:
        raise ValueError(f'it is not plain data: {error}') from error
    return Config(settings)


class _DictsAsLiterals(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        names = [keyword.arg for keyword in node.keywords]
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or node.args or None in names:
            return node  # which literal_eval refuses
        return ast.Dict([ast.Constant(name) for name in names], [keyword.value for keyword in node.keywords])


def _targets(out: Path, onnx: bool) -> tuple[Path, ...]:
    if out.suffix != '.pth':
        raise ValueError(f'the checkpoint to write must end in .pth, got {out}')
    return tuple(out.with_suffix(suffix) for suffix in ('.pth', '.py', *(['.onnx'] if onnx else [])))


def _check_targets(targets: Sequence[Path], force: bool) -> None:
    for target in targets:
        if target.is_dir() or (target.exists() and not force):
            raise FileExistsError(f'{target} exists, and nothing was written: choose another name, or pass --force')
    if (targets[0].parent / 'last_checkpoint').is_file():
        raise ValueError(
            f'{targets[0].parent} is the work_dir of a run, whose config {targets[1].name} would be taken for: '
            'choose another folder'
        )
    folder = next(parent for parent in targets[0].absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OSError(f'{targets[0]} cannot be written: {folder} is no folder that you may write to')


def _check_no_input_is_lost(targets: Sequence[Path], *inputs: Path) -> None:
    for target in targets:
        if target.resolve() in [one.resolve() for one in inputs]:
            raise FileExistsError(f'{target} is what is to be exported, and is never overwritten: choose another name')


def _find_checkpoint(source: Path, run: Run | None) -> Path:
    if not source.exists():
        raise FileNotFoundError(f'there is no work_dir and no checkpoint {source}')
    if run is None:
        return source
    if run.checkpoint is None:
        raise FileNotFoundError(
            f'{source} holds no checkpoint (epoch_*.pth or iter_*.pth): is it the work_dir of a run?'
        )
    return run.checkpoint


def _find_config(
    run: Run | None, checkpoint: Path, contents: Mapping[str, Any], config: str | Path | None
) -> tuple[Path, Config]:
    """Return the file that a config was read from, which may be the checkpoint, and the config."""
    if config is not None:
        return Path(config), _read_config(Path(config))
    if run is not None and run.config is not None and run.config_file is not None:
        return run.config_file, run.config
    text = (contents.get('meta') or {}).get('cfg')
    beside = checkpoint.with_suffix('.py')
    if text is None and beside.is_file():
        return beside, _read_config(beside)
    if text is None:
        raise ValueError(f'{checkpoint} holds no config, and none lies beside it: pass --config')
    try:
        found = config_from_text(text)
    except ValueError as error:
        raise ValueError(f'the config in {checkpoint} cannot be read ({error}): pass --config') from error
    import_modules_from_strings(**found.get('custom_imports', {'imports': None}))
    return checkpoint, found


def _read_config(file: Path) -> Config:
    if not file.is_file():
        raise FileNotFoundError(f'there is no config {file}')
    try:
        return Config.fromfile(file)
    except Exception as error:  # a config is code, which may fail in any way
        raise ValueError(f'the config {file} cannot be read: {_sentence(error)}') from error


def _give_back_optimizer(settings: dict[str, Any], dropped: list[str]) -> None:
    """Undo :class:`kddense.JointOptimWrapperConstructor`."""
    wrapper = settings.get('optim_wrapper') or {}
    constructor = str(wrapper.get('constructor'))
    if not constructor.startswith(OURS):
        return
    dropped.append(f'{constructor} (the student keeps its own optimiser)')
    own = {key: value for key, value in wrapper.items() if key not in ('constructor', 'objectives')}
    if 'student_constructor' in own:
        own['constructor'] = own.pop('student_constructor')
    settings['optim_wrapper'] = own
    schedules = settings.get('param_scheduler')
    if isinstance(schedules, dict) and 'student' in schedules:
        settings['param_scheduler'] = schedules['student']


def _without_kddense(value: Any, where: str, dropped: list[str]) -> Any:
    """Copy a setting without what kddense added to its lists, and to the default hooks."""
    if isinstance(value, (list, tuple)):
        kept = [new for item in value if item != TEACHERS_IMAGE for new in _substitutes(item, where, dropped)]
        return type(value)(kept)
    if not isinstance(value, dict):
        return value
    if where != 'default_hooks':
        return {key: _without_kddense(item, f'{where}.{key}', dropped) for key, item in value.items()}
    return {key: new for key, item in value.items() for new in _substitutes(item, where, dropped)}


def _substitutes(item: Any, where: str, dropped: list[str]) -> list[Any]:
    """Return what stands in an item's place: itself, something of the stock libraries, or nothing."""
    if not _is_ours(item):
        return [_without_kddense(item, where, dropped)]
    name = item['type'].rpartition('.')[2]
    if name == 'ShrinkForStudent':
        return _as_resize(item, where, dropped)
    if name == 'DepthMetric' and item.get('crop_type') in (None, 'nyu_crop'):
        dropped.append(f"{item['type']} (mmseg's DepthMetric in its place, which crops images of 640x480 only)")
        # mmseg 1.2 fails on its own argument depth_metrics, and measures all of them without it
        return [{**{key: value for key, value in item.items() if key != 'depth_metrics'}, 'type': 'mmseg.DepthMetric'}]
    dropped.append(item['type'])
    return []


def _as_resize(item: dict[str, Any], where: str, dropped: list[str]) -> list[dict[str, Any]]:
    if where.startswith(('val', 'test', 'tta')):
        return [item]  # two Resize in a row would lose the scale by which boxes are taken back to the image
    dropped.append(f'{item["type"]} (Resize in its place)')
    return [dict(item.get('resize') or dict(type='Resize', keep_ratio=True), scale_factor=1 / item['factor'])]


def _is_ours(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get('type')).startswith(OURS)


def _kddense_types(value: Any, where: str = '') -> list[tuple[str, str]]:
    """Return what of kddense is named in a setting, as pairs of place and name."""
    if isinstance(value, str):
        return [(where.rpartition('.')[0], value)] if value.startswith(OURS) else []
    if isinstance(value, dict):
        return [
            found
            for key, item in value.items()
            if key != 'custom_imports'
            for found in _kddense_types(item, f'{where}.{key}' if where else str(key))
        ]
    if isinstance(value, (list, tuple)):
        return [found for item in value for found in _kddense_types(item, where)]
    return []


def _distillers_parts(distiller: Mapping[str, Any]) -> list[Any]:
    """Return what a config may keep in variables beside the model: student, teacher, its files, objectives."""
    teacher = distiller.get('teacher') or {}
    objectives = distiller.get('objectives') or {}
    teachers = [teacher] if 'config' in teacher else list(teacher.values())
    files = [one[key] for one in teachers for key in ('config', 'checkpoint') if one.get(key)]
    return [part for part in (distiller.get('student'), teacher, objectives, *teachers, *files) if part]


def _is_only_for_distilling(key: str, value: Any, parts: Sequence[Any]) -> bool:
    if key in KNOWN_SETTINGS or key.endswith('pipeline'):
        return False
    return any(value == part for part in parts) or bool(_kddense_types(value))


def _plain_imports(settings: dict[str, Any], needs_kddense: bool, dropped: list[str]) -> list[str]:
    """Take kddense, and modules that build on it, out of ``custom_imports``; return those that must stay after all."""
    imports = (settings.get('custom_imports') or {}).get('imports') or []
    names = [imports] if isinstance(imports, str) else list(imports)
    if needs_kddense:
        return []
    building_on_it = [name for name in names if _imports_kddense(name)]
    types = set(_types(settings))
    needed = [f'{name} in custom_imports' for name in building_on_it if types & _defined_in(name)]
    if needed:
        return needed
    dropped += [f'{name} (custom_imports)' for name in building_on_it]
    kept = [name for name in names if name not in building_on_it and name.partition('.')[0] != 'kddense']
    if kept:
        settings['custom_imports']['imports'] = kept
    else:
        settings.pop('custom_imports', None)
    return []


def _modules(name: str) -> list[Any]:
    return [module for key, module in list(sys.modules.items()) if key == name or key.startswith(f'{name}.')]


def _imports_kddense(name: str) -> bool:
    if name.partition('.')[0] == 'kddense':
        return False
    files = [Path(getattr(module, '__file__', None) or '') for module in _modules(name)]
    sources = [file.read_text() for file in files if file.suffix == '.py']
    return any(re.search(r'^\s*(from|import)\s+kddense\b', source, flags=re.MULTILINE) for source in sources)


def _defined_in(name: str) -> set[str]:
    return {
        key
        for module in _modules(name)
        for key, value in vars(module).items()
        if getattr(value, '__module__', None) == module.__name__
    }


def _types(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield str(value.get('type')).rpartition('.')[2]
    if isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _types(item)


def _build(settings: Mapping[str, Any], origin: Path) -> nn.Module:
    config = Config(copy.deepcopy(dict(settings)))
    scope = config.get('default_scope')
    require_library(config.model, scope, f'the student of {origin}')
    try:
        with forked_random_state(), DefaultScope.overwrite_default_scope(scope):
            return MODELS.build(config.model).eval()
    except Exception as error:  # the constructors of other libraries may fail in any way
        raise ValueError(f'the student of {origin} cannot be built: {_sentence(error)}') from error


def _chosen_weights(contents: Mapping[str, Any], ema: bool, checkpoint: Path) -> Mapping[str, Tensor]:
    """Return the trained weights, or the averaged ones: mmengine's ``EMAHook`` saves the two in each other's place."""
    saved = contents.get('state_dict', contents)
    swapped = contents.get('ema_state_dict')
    if not isinstance(saved, Mapping):
        raise ValueError(f'{checkpoint} holds no weights by name, but a {type(saved).__name__}')
    if ema and swapped is None:
        raise ValueError(f'{checkpoint} keeps no averaged weights, its run had no EMAHook: leave out --ema')
    if ema or swapped is None:
        return saved
    trained = OrderedDict((key, swapped.get(f'module.{key}', value)) for key, value in saved.items())
    trained._metadata = getattr(saved, '_metadata', {})  # type: ignore[attr-defined]
    return trained


def _load(student: nn.Module, weights: Mapping[str, Tensor], fault: str) -> None:
    try:
        student.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f'{fault}: {_misfits(student, weights) or _sentence(error)}') from error


def _misfits(student: nn.Module, weights: Mapping[str, Tensor]) -> str:
    own = student.state_dict()
    faults = {
        'missing': [key for key in own if key not in weights],
        'unexpected': [key for key in weights if key not in own],
        'of another shape': [key for key in own if key in weights and np.shape(weights[key]) != own[key].shape],
    }
    return '; '.join(f'{len(keys)} {kind}, such as {keys[0]}' for kind, keys in faults.items() if keys)


def _plain_meta(contents: Mapping[str, Any], text: str) -> dict[str, Any]:
    meta = contents.get('meta') or {}
    return dict({key: _as_data(meta[key]) for key in KEPT_META if key in meta}, cfg=text)


def _as_data(value: Any) -> Any:
    """Copy a value with nothing in it that ``weights_only=True`` would not load."""
    if isinstance(value, (np.ndarray, np.generic, Tensor)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {_as_data(key): _as_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(map(_as_data, value))
    return value if value is None or type(value) in (bool, int, float, str) else str(value)


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Yield a folder on the target's file system, from which files are moved in one stroke; it is gone afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.export-', dir=folder) as aside:
            yield Path(aside)
    except OSError as error:
        raise OSError(f'{folder} cannot be written to: {error}') from error


def _as_text(settings: dict[str, Any]) -> str:
    try:
        return Config(settings).pretty_text
    except SyntaxError as error:
        raise ValueError(f'the config cannot be written as text: {_sentence(error)}') from error


def _check_config_text(file: Path, settings: Mapping[str, Any]) -> None:
    try:
        read = Config.fromfile(file, import_custom_modules=False).to_dict()
    except Exception as error:  # it is run, which may fail in any way
        raise ValueError(f'the config cannot be written as text: {_sentence(error)}') from error
    differing = [key for key in settings if read.get(key) != settings[key]]
    if differing:
        raise ValueError(f'the config cannot be written as text: {", ".join(differing)} would not be read as it is')


def _notes(plain: PlainConfig, contents: Mapping[str, Any], ema: bool, targets: Sequence[Path]) -> Iterator[str]:
    out = targets[0]
    if plain.dropped:
        yield f'left out of {out.with_suffix(".py")}: {", ".join(plain.dropped)}'
    if plain.needs:
        yield (
            f'{out.with_suffix(".py")} needs kddense installed, for {", ".join(plain.needs)}; '
            '--onnx gives a file that does not'
        )
    if 'ema_state_dict' in contents and not ema:
        yield (
            'these are the trained weights; the run also kept their average, which is what its validation measured: '
            '--ema exports that'
        )
    stale = out.with_suffix('.onnx')
    if stale not in targets and stale.exists():
        yield f'{stale} is of an earlier export: --onnx writes it anew'


def _sentence(error: Exception) -> str:
    """Return the first sentence of an error, on one line."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    line = next(iter(text.strip().splitlines()), '').partition('. ')[0]
    return line or type(error).__name__


def _require_onnx() -> None:
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"ONNX needs {' and '.join(missing)}, not installed here: pip install 'kddense[onnx]'")


def _example_size(settings: Mapping[str, Any], shape: Sequence[int] | None) -> tuple[int, int]:
    """Return the height and width of images that a student is made for, as the network gets them: padded."""
    if shape is not None:
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f'the shape must be a height and a width, got {tuple(shape)}')
        return shape[0], shape[1]
    preprocessor = settings['model'].get('data_preprocessor') or {}
    size = preprocessor.get('size') or settings.get('crop_size') or _size_in_pipelines(settings)
    if size is None:
        raise ValueError('the config does not say how large images are: pass --shape HEIGHT WIDTH')
    divisor = preprocessor.get('pad_size_divisor') or preprocessor.get('size_divisor') or 1
    height, width = (-(-length // divisor) * divisor for length in size)
    return height, width


def _size_in_pipelines(settings: Mapping[str, Any]) -> tuple[int, int] | None:
    crops = [step.get('crop_size') for step in _pipeline(settings.get('train_dataloader'))]
    scales = [step.get('scale') for step in _pipeline(settings.get('test_dataloader'))]
    # mmseg crops to (height, width), and may give a Resize as a bound that no image reaches
    sizes = [*crops] if 'decode_head' in settings['model'] else []
    sizes += [scale[::-1] for scale in scales if isinstance(scale, (list, tuple))]
    return next((size for size in sizes if isinstance(size, (list, tuple)) and len(size) == 2), None)  # type: ignore


def _pipeline(loader: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    dataset = (loader or {}).get('dataset') or {}
    while 'pipeline' not in dataset and ('dataset' in dataset or dataset.get('datasets')):  # wrapped in another
        dataset = dataset.get('dataset') or dataset['datasets'][0]
    return dataset.get('pipeline', [])


class _Network(nn.Module):
    """What the ONNX file computes of normalised images: scores or metres of every pixel, or a pyramid of features."""

    def __init__(self, student: Any) -> None:
        super().__init__()
        if not hasattr(student, 'encode_decode') and not hasattr(student, 'extract_feat'):
            raise RuntimeError(f'{type(student).__name__} is neither a segmentor, a depth estimator nor a detector')
        self.student = student

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if not hasattr(self.student, 'encode_decode'):
            return tuple(self.student.extract_feat(images))
        size = images.shape[-2:]
        meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
        return (self.student.encode_decode(images, [meta] * len(images)),)

    @torch.no_grad()
    def output_names(self, size: tuple[int, int]) -> tuple[str, ...]:
        if hasattr(self.student, 'encode_decode'):
            return ('depth',) if is_a(self.student, 'DepthEstimator') else ('logits',)
        return tuple(f'level_{index}' for index in range(len(self(torch.zeros(1, 3, *size)))))


class _AdaptivePooling(nn.Module):
    """``nn.AdaptiveAvgPool2d`` out of operators that ONNX has: each cell's mean is a row of a matrix."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, maps: Tensor) -> Tensor:
        rows = self._means(self.height, maps.shape[-2], maps)
        columns = self._means(self.width, maps.shape[-1], maps)
        return rows @ maps @ columns.transpose(0, 1)

    @staticmethod
    def _means(cells: int, length: int, like: Tensor) -> Tensor:
        cell, place = torch.arange(cells)[:, None], torch.arange(length)
        first, end = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
        inside = ((place >= first) & (place < end)).to(like.dtype)
        return inside / inside.sum(dim=1, keepdim=True)


def _write_onnx(student: nn.Module, file: Path, size: tuple[int, int], meta: Mapping[str, Any]) -> OnnxReport:
    """Export with as many dynamic axes as give PyTorch's values, and write down what the input must look like."""
    network = _Network(student).eval()
    exportable = _Network(_exportable(student)).eval()
    names = network.output_names(size)
    reason = ''
    for axes in DYNAMIC_AXES:
        try:
            _trace(exportable, names, file, size, axes)
            difference = _difference(network, file, size, axes)
        except Exception as error:  # PyTorch's exporter, the student's own code or ONNX Runtime
            reason = _sentence(error)
            continue
        if difference <= TOLERANCE:  # False for NaN too
            _describe(student, file, meta)
            return OnnxReport(names, tuple(axes.values()), size, difference, limit=reason)
        reason = f'its values differ from those of PyTorch by {difference:.1e}, relative to the greatest'
    raise RuntimeError(f'{type(student).__name__} cannot be exported to ONNX: {reason}')


def _exportable(student: nn.Module) -> nn.Module:
    student = revert_sync_batchnorm(copy.deepcopy(student))
    for module in list(student.modules()):
        for name, part in module.named_children():
            setattr(module, name, _exportable_part(part))
    return student


def _exportable_part(part: Any) -> nn.Module:
    """Return what gives the same values as a layer, but does not turn the size of an image into a constant."""
    if isinstance(part, nn.AdaptiveAvgPool2d):
        height, width = to_2tuple(part.output_size)
        return part if None in (height, width) or (height, width) == (1, 1) else _AdaptivePooling(height, width)
    if is_a(part, 'Upsample') and not isinstance(part, nn.Upsample) and not part.size:  # mmseg's
        return nn.Upsample(scale_factor=part.scale_factor, mode=part.mode, align_corners=part.align_corners)
    return part


@torch.no_grad()
def _trace(network: _Network, names: Sequence[str], file: Path, size: tuple[int, int], axes: dict[int, str]) -> None:
    """Export by tracing, which every PyTorch since 2.1 can; the newer exporter needs more packages and gives no more."""
    images = torch.zeros(2 if axes else 1, 3, *size)
    dynamic = {'images': axes}
    for name in names:
        prefix = f'{name}_' if name.startswith('level') else ''
        dynamic[name] = {axis: what if axis == 0 else prefix + what for axis, what in axes.items()}
    tracing = {'dynamo': False} if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
    with warnings.catch_warnings(), _silent_output():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            network,
            (images,),
            str(file),
            input_names=['images'],
            output_names=list(names),
            dynamic_axes=dynamic,
            opset_version=OPSET,
            **tracing,  # type: ignore[arg-type]
        )


@contextmanager
def _silent_output() -> Iterator[None]:
    """Keep the standard output clean: where an export fails, PyTorch's C++ prints the whole graph to it."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, 'w') as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@torch.no_grad()
def _difference(network: _Network, file: Path, size: tuple[int, int], axes: dict[int, str]) -> float:
    """Return the greatest relative difference on random images, of other numbers and sizes too where they may vary."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # an error is raised all the same
    session = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])
    random = torch.Generator().manual_seed(0)
    step = max(32, PixelFormat.of(network.student.data_preprocessor).size_divisor)
    differences = []
    for shape in _shapes(size, axes, step):
        images = torch.randn(shape, generator=random)
        found = map(torch.from_numpy, session.run(None, {'images': images.numpy()}))
        differences += [_relative(*pair) for pair in zip(found, network(images), strict=True)]
    return torch.tensor(differences).max().item()


def _shapes(size: tuple[int, int], axes: dict[int, str], step: int) -> list[tuple[int, ...]]:
    height, width = size
    if 2 in axes:
        return [(1, 3, *size), (2, 3, height + step, width + 2 * step)]
    return [(1, 3, *size), (3, 3, *size)] if axes else [(1, 3, *size)]


def _relative(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float('inf')
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()


def _describe(student: Any, file: Path, meta: Mapping[str, Any]) -> None:
    """Write into the file how images become its input, and the names of the classes."""
    import onnx

    pixels = PixelFormat.of(student.data_preprocessor)
    facts = dict(
        mean=pixels.mean,
        std=pixels.std,
        bgr_to_rgb=pixels.reversed_channels,
        size_divisor=pixels.size_divisor,
        classes=(meta.get('dataset_meta') or {}).get('classes'),
    )
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items() if value is not None})
    onnx.checker.check_model(model)
    onnx.save(model, str(file))

"""Where the stand-in for ``mmcv._ext`` comes from: registered in this process, or installed for every process."""

from __future__ import annotations

import enum
import importlib.machinery
import importlib.util
import sys
from pathlib import Path

EXT = 'mmcv._ext'

INSTALLED_FILE = '''\
"""Stands in for mmcv's compiled operators; written, and removed again, by `python -m kddense.compat`."""

import importlib.util
import sys


def _load_compat():
    """Load kddense.compat alone: kddense as a whole may import mmdet, which may be importing this very file."""
    if 'kddense.compat' in sys.modules:
        return sys.modules['kddense.compat']
    spec = importlib.util.find_spec('kddense')
    for folder in (spec and spec.submodule_search_locations) or ():
        compat = importlib.util.spec_from_file_location(
            '_kddense_compat', f'{folder}/compat/__init__.py', submodule_search_locations=[f'{folder}/compat'])
        module = importlib.util.module_from_spec(compat)
        sys.modules[compat.name] = module
        try:
            compat.loader.exec_module(module)
        except FileNotFoundError:
            del sys.modules[compat.name]
            continue
        return module
    raise ImportError(
        f'{__file__} hands the operators of mmcv to kddense, which cannot be imported here: '
        'install kddense, or delete this file, or install compiled mmcv 2.1')


_compat = _load_compat()
_compat.register_safe_globals()
__getattr__ = importlib.import_module(_compat.__name__ + '.ops').__getattr__
'''


class State(enum.Enum):
    """What a process that imports ``mmcv.ops`` would find; the value is the sentence that ``status`` prints."""

    NO_MMCV = 'mmcv is not installed'
    COMPILED = 'compiled mmcv is installed: its own operators are used'
    INSTALLED = "mmcv-lite is installed, with kddense's stand-in for the compiled operators"
    FOREIGN = 'mmcv has an _ext module that is neither compiled nor written by kddense'
    MISSING = 'mmcv-lite is installed, without a stand-in: only processes that import kddense have the operators'


def _mmcv_folder() -> Path | None:
    """Return mmcv's folder without importing mmcv; None where there is no mmcv."""
    try:
        spec = importlib.util.find_spec('mmcv')
    except ValueError:  # a stub in sys.modules, made by somebody's test
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _is_ours(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(INSTALLED_FILE.splitlines()[0].encode())


def state(folder: Path | None = None) -> State:
    """Tell what stands in for mmcv's compiled operators.

    Args:
        folder: The ``mmcv`` package's folder; found on the import path by default.
    """
    folder = folder or _mmcv_folder()
    if folder is None or not folder.is_dir():
        return State.NO_MMCV
    spec = importlib.machinery.PathFinder.find_spec(EXT, [str(folder)])
    if spec is None:
        return State.MISSING
    if isinstance(spec.loader, importlib.machinery.ExtensionFileLoader):
        return State.COMPILED
    return State.INSTALLED if spec.origin and _is_ours(Path(spec.origin)) else State.FOREIGN


def register_operators() -> None:
    """Let ``mmcv._ext`` mean :mod:`kddense.compat.ops` in this process, unless mmcv has an ``_ext`` of its own.

    It must run before anything imports ``mmcv.ops``.
    """
    if EXT not in sys.modules and state() is State.MISSING:
        # The module keeps its own spec: mmengine asks for the spec of mmcv._ext to learn whether there are operators.
        sys.modules[EXT] = importlib.import_module('.ops', __package__)


def install(folder: Path | None = None) -> str:
    """Write the stand-in beside mmcv-lite, so that every process finds it; return a sentence that says what was done.

    Args:
        folder: The ``mmcv`` package's folder; found on the import path by default.

    Raises:
        RuntimeError: If there is no mmcv, or a file that is not kddense's is in the way.
    """
    folder = folder or _mmcv_folder()
    found = state(folder)
    if folder is None or found is State.NO_MMCV:
        raise RuntimeError('mmcv is not installed: install mmcv-lite 2.1.0 first')
    if found is State.COMPILED:
        return 'nothing to do: compiled mmcv is installed, and its own operators are used'
    target = folder / '_ext.py'
    if found is State.FOREIGN or (target.exists() and not _is_ours(target)):
        raise RuntimeError(f'{folder} already has an _ext module that kddense did not write: it is left as it is')
    if found is State.INSTALLED and target.read_text() == INSTALLED_FILE:
        return f'nothing to do: {target} is in place'
    target.write_text(INSTALLED_FILE)
    importlib.invalidate_caches()
    return f'wrote {target}'


def uninstall(folder: Path | None = None) -> str:
    """Remove what :func:`install` wrote, and nothing else; return a sentence that says what was done.

    Args:
        folder: The ``mmcv`` package's folder; found on the import path by default.
    """
    folder = folder or _mmcv_folder()
    target = folder / '_ext.py' if folder else None
    if target is None or not _is_ours(target):
        return 'nothing to do: no stand-in of kddense is installed'
    target.unlink()
    importlib.invalidate_caches()
    return f'removed {target}'

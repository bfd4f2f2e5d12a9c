"""What is installed: facts about an environment, found without trusting that anything in it works."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import platform
import re
import site
import sys
import warnings
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

# Modules and the distributions that bring them, stock first, then what replaces it under the same name.
DISTRIBUTIONS = {
    'torch': ('torch',),
    'torchvision': ('torchvision',),
    'numpy': ('numpy',),
    'mmengine': ('mmengine', 'mmengine-lite', 'onedl-mmengine'),
    'mmcv': ('mmcv', 'mmcv-lite', 'mmcv-full', 'onedl-mmcv'),
    'mmdet': ('mmdet', 'onedl-mmdetection'),
    'mmseg': ('mmsegmentation', 'onedl-mmsegmentation'),
    'pycocotools': ('pycocotools',),
    'ftfy': ('ftfy',),
    'regex': ('regex',),
    'kddense': ('kddense',),
}
OPENMMLAB = ('mmengine', 'mmcv', 'mmdet', 'mmseg')


@dataclass(frozen=True)
class Found:
    """A module.

    Attributes:
        version: What the module says of itself, else its distribution; empty if neither does.
        folder: Where it lies; empty if it is not there.
        distributions: All installed ones that bring it, such as ``'mmcv-lite 2.1.0'``.
        error: Why it cannot be imported, in one line; empty if it can, or is not there.
    """

    version: str = ''
    folder: str = ''
    distributions: tuple[str, ...] = ()
    error: str = ''

    @property
    def is_there(self) -> bool:
        return bool(self.folder)

    @property
    def is_fork(self) -> bool:
        return any(name.startswith('onedl-') for name in self.distributions)


@dataclass(frozen=True)
class Environment:
    """What :mod:`kddense_start.doctor` looks at.

    Attributes:
        python: Its version.
        modules: By name, those of :data:`DISTRIBUTIONS`.
        operators: What stands for mmcv's compiled operators: a name and a sentence of ``kddense.compat.State``.
        devices: ``'cpu'`` and the accelerators that PyTorch sees.
        mmcv_limits: The version of mmcv that mmdet and mmseg each ask to stay below, by their names.
        wants_pkg_resources: Whether mmengine reads ``package::path`` configs through it.
        has_pkg_resources: Whether it is there; setuptools 81 dropped it.
        knows_our_configs: Whether processes that do not import kddense can read ``kddense::path``.
    """

    python: str = ''
    modules: dict[str, Found] = field(default_factory=dict)
    operators: tuple[str, str] = ('', '')
    devices: tuple[str, ...] = ()
    mmcv_limits: dict[str, str] = field(default_factory=dict)
    wants_pkg_resources: bool = False
    has_pkg_resources: bool = True
    knows_our_configs: bool = True

    @property
    def openmmlab(self) -> str:
        """``'stock'``, ``'forks'``, ``'both'`` or ``'none'``."""
        kinds = {found.is_fork for name in OPENMMLAB if (found := self.modules[name]).is_there and name != 'mmcv'}
        return {(): 'none', (False,): 'stock', (True,): 'forks'}.get(tuple(kinds), 'both')


def look() -> Environment:
    """Return the facts about this process's environment."""
    modules = {name: _found(name) for name in DISTRIBUTIONS}
    return Environment(
        python=platform.python_version(),
        modules=modules,
        operators=_operators(modules['kddense']),
        devices=_devices(),
        mmcv_limits={name: limit for name in ('mmdet', 'mmseg') if (limit := _mmcv_limit(modules[name]))},
        wants_pkg_resources='pkg_resources' in _source(modules['mmengine'], 'utils/package_utils.py'),
        has_pkg_resources=_is_there('pkg_resources'),
        knows_our_configs=any(Path(folder, 'kddense.pth').is_file() for folder in _site_folders()),
    )


def _found(name: str) -> Found:
    distributions = tuple(
        f'{one} {version}' for one in DISTRIBUTIONS[name] if (version := _version_of_distribution(one)) is not None
    )
    if not _is_there(name):
        return Found(distributions=distributions)
    spec = importlib.util.find_spec(name)
    folder = str(Path(spec.origin).parent) if spec and spec.origin else ''
    if not folder:  # a folder without __init__.py, such as what an uninstallation left
        return Found(distributions=distributions)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter('ignore')
            module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a broken package raises is what we are here to tell
        return Found(folder=folder, distributions=distributions, error=_line(error))
    version = getattr(module, '__version__', '') or (distributions[0].partition(' ')[2] if distributions else '')
    return Found(str(version), folder, distributions)


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # a module in sys.modules without a spec
        return name in sys.modules


def _version_of_distribution(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _line(error: BaseException) -> str:
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def _operators(kddense: Found) -> tuple[str, str]:
    """Ask the module that installs the stand-in, which needs Python alone; kddense as a whole may not be importable."""
    file = Path(kddense.folder or Path(__file__).parents[1] / 'kddense', 'compat', 'standin.py')
    spec = importlib.util.spec_from_file_location('_kddense_standin', file)
    if spec is None or spec.loader is None or not file.is_file():
        return '', ''
    standin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(standin)
    state = standin.state()
    return state.name, state.value


def _devices() -> tuple[str, ...]:
    try:
        import torch

        names = [f'cuda:{index} {torch.cuda.get_device_name(index)}' for index in range(torch.cuda.device_count())]
        names += ['mps'] if torch.backends.mps.is_available() else []
    except Exception:  # told as PyTorch's own trouble
        return ()
    return ('cpu', *names)


def _mmcv_limit(package: Found) -> str:
    """Return the version of mmcv that a package's own check forbids, and all above it."""
    found = re.search(
        r"""^mmcv_max\w*\s*=\s*['"]([\d.]+)""", _source(package, '__init__.py'), re.IGNORECASE | re.MULTILINE
    )
    return found[1] if found else ''


def _source(package: Found, file: str) -> str:
    path = Path(package.folder, file)
    return path.read_text(encoding='utf-8', errors='replace') if package.is_there and path.is_file() else ''


def _site_folders() -> list[str]:
    return [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else []), *sys.path]

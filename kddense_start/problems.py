"""What may be wrong with an installation, and the mend of each: one function per kind of trouble."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from kddense_start.environment import OPENMMLAB, Environment

STOCK = "pip install 'kddense[detection,segmentation,lite]'"
INSTALL = {
    'torch': 'pip install torch torchvision',
    'torchvision': 'pip install torchvision',
    'numpy': 'pip install numpy',
    'mmengine': f"{STOCK} for stock OpenMMLab, or pip install 'kddense[forks]' for the maintained forks",
    'mmcv': 'pip install --no-deps mmcv-lite==2.1.0, then python -m kddense.compat install',
}


class Problem(NamedTuple):
    """One thing that is wrong.

    Attributes:
        what: A sentence.
        do: The mend.
    """

    what: str
    do: str


def problems_of(environment: Environment) -> list[Problem]:
    """Return what is wrong with an environment, what stops everything first."""
    return [problem for kind in (_absent, _broken, _twice, _undeclared, _mmcv) for problem in kind(environment)]


def notes_on(environment: Environment) -> list[str]:
    """Return what is worth knowing and is not wrong."""
    notes = []
    for name, extra, tasks in (
        ('mmdet', 'detection', 'detectors cannot be distilled'),
        ('mmseg', 'segmentation', 'segmentors and depth estimators cannot be distilled'),
    ):
        if not environment.modules[name].is_there:
            mend = "'kddense[forks]'" if environment.openmmlab == 'forks' else f"'kddense[{extra}]'"
            notes.append(f'{name} is not installed: {tasks}; pip install {mend}')
    if environment.openmmlab == 'both':
        notes.append('stock OpenMMLab and its forks are mixed, which nobody tested')
    if not environment.knows_our_configs:
        notes.append(
            'kddense is on the import path without being installed: scripts that do not import it cannot read '
            "'kddense::path' in configs; pip install it"
        )
    return notes


def _absent(environment: Environment) -> Iterator[Problem]:
    for name, mend in INSTALL.items():
        if not environment.modules[name].is_there:
            yield Problem(f'{name} is not installed', mend)
    if not any(environment.modules[name].is_there for name in ('mmdet', 'mmseg')):
        what = 'neither mmdet nor mmseg is installed, so that there is nothing to distil'
        yield Problem(what, INSTALL['mmengine'])


def _broken(environment: Environment) -> Iterator[Problem]:
    """Tell of modules that are there and cannot be imported; of kddense only if it is not by the fault of another."""
    culprits = [name for name, found in environment.modules.items() if found.error and name != 'kddense']
    if not culprits and all(environment.modules[name].is_there for name in INSTALL):
        culprits = ['kddense']
    for name in culprits:
        found = environment.modules[name]
        if found.error:
            source = found.distributions[0].partition(' ')[0] if found.distributions else name
            yield Problem(
                f'{name} is in {found.folder} and cannot be imported: {found.error}',
                f'mend what the error names, or pip install --force-reinstall --no-deps {source}',
            )


def _twice(environment: Environment) -> Iterator[Problem]:
    for name in OPENMMLAB:
        distributions = environment.modules[name].distributions
        if len(distributions) > 1:
            names = [one.partition(' ')[0] for one in distributions]
            yield Problem(
                f'{name} is installed by {" and by ".join(distributions)}, which write over each other',
                f'pip uninstall {" ".join(names)}, then install the one you want',
            )


def _undeclared(environment: Environment) -> Iterator[Problem]:
    """Tell of what OpenMMLab imports without requiring it."""
    modules = environment.modules
    if modules['mmdet'].is_there and not modules['pycocotools'].is_there:
        yield Problem('mmdet needs pycocotools, which is not installed', 'pip install pycocotools')
    missing = [name for name in ('ftfy', 'regex') if not modules[name].is_there]
    if modules['mmseg'].is_there and missing:
        names = ' and '.join(missing)
        yield Problem(f'mmseg imports {names} without requiring it', f'pip install {" ".join(missing)}')
    if environment.wants_pkg_resources and not environment.has_pkg_resources:
        yield Problem(
            "mmengine reads 'package::path' configs through pkg_resources, which setuptools 81 dropped",
            "pip install 'setuptools<81'",
        )


def _mmcv(environment: Environment) -> Iterator[Problem]:
    state, sentence = environment.operators
    if state == 'MISSING':
        yield Problem(f'{sentence}, which scripts of mmdet and mmseg do too late', 'python -m kddense.compat install')
    if state == 'FOREIGN':
        yield Problem(sentence, 'remove it, then python -m kddense.compat install')
    mmcv = environment.modules['mmcv']
    for name, limit in environment.mmcv_limits.items():
        if mmcv.version and _numbers(mmcv.version) >= _numbers(limit):
            yield Problem(
                f'{name} {environment.modules[name].version or "here"} works with mmcv below {limit}, '
                f'and mmcv {mmcv.version} is installed',
                f"pip install 'mmcv<{limit}', or mmcv-lite==2.1.0",
            )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r'\d+', version)[:3]]

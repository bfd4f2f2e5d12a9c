"""The command ``kddense``: a table of subcommands, each an app with a ``main(argv)`` that is imported when it is called."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NamedTuple


class Subcommand(NamedTuple):
    """One line of the table.

    Attributes:
        module: Where its ``main(argv: Sequence[str] | None)`` is, which returns an exit status or None.
        does: What it does, in a few words.
    """

    module: str
    does: str


SUBCOMMANDS = {
    'distill': Subcommand(
        'kddense.apps.distill', "from a student's config and a teacher to a tested student, in one call"
    ),
    'train': Subcommand('kddense.apps.train', 'train any config of mmdet, mmseg or kddense'),
    'test': Subcommand('kddense.apps.test', 'test a checkpoint'),
    'report': Subcommand('kddense.apps.report', 'write one page about a distillation: results, costs, pictures'),
    'export': Subcommand('kddense.apps.export', 'write the student as a plain checkpoint and config, and as ONNX'),
    'measure': Subcommand('kddense.apps.measure', 'say whether a method helps: several seeds, intervals, equal time'),
    'program': Subcommand(
        'kddense.apps.program', 'run trainings that learn from each other: chains, routes, generations'
    ),
    'benchmark': Subcommand('kddense.apps.benchmark', "time a distillation step beside the plain student's"),
    'scale': Subcommand('kddense.apps.scale', 'predict a step on many devices from what was measured on one'),
    'gradients': Subcommand('kddense.apps.measure.gradients', "compare each objective's gradient with the task's"),
    'diagnose': Subcommand('kddense.apps.diagnose', 'say what a run tells of why it helps or harms'),
    'label': Subcommand('kddense.apps.label', 'label images with a trained model: boxes, classes of pixels, depth'),
    'search': Subcommand('kddense.apps.search', 'search for the student that learns best from a teacher'),
    'teacher-errors': Subcommand(
        'kddense.apps.teacher_errors', 'measure how wrong a teacher is, for attentive imitation'
    ),
    'demo': Subcommand('kddense.apps.demo.command', 'teacher, students and a report on generated street scenes'),
    'scenes': Subcommand('kddense.apps.street_scenes.command', 'generate street scenes'),
    'replay': Subcommand('kddense.apps.replay', 'take a step again whose losses were NaN or infinite'),
    'doctor': Subcommand('kddense_start.doctor', 'say what is installed, whether that is sound, and what to do if not'),
}


def main(argv: Sequence[str] | None = None) -> int | None:
    """Run a subcommand.

    Args:
        argv: Its name and its arguments; those of the process by default.

    Returns:
        The exit status; None is success.
    """
    called = 'python -m kddense' if os.path.basename(sys.argv[0]) == '__main__.py' else 'kddense'
    name, *rest = (sys.argv[1:] if argv is None else argv) or ['--help']
    if name in ('-h', '--help'):
        print(_help(called))
        return 0
    if name == '--version':
        print(_version())
        return 0
    if name not in SUBCOMMANDS:
        print(f'error: {_unknown(name)}; {called} --help lists them all', file=sys.stderr)
        return 2
    _ignore_known_noise()
    sys.argv[0] = f'{called} {name}'  # what the help text of the subcommand calls itself
    try:
        app = importlib.import_module(SUBCOMMANDS[name].module)
    except ImportError as error:
        print(f'error: {error}; kddense doctor says more', file=sys.stderr)
        return 1
    return app.main(rest)


def _help(called: str) -> str:
    width = max(map(len, SUBCOMMANDS))
    lines = [f'  {name:<{width}}  {subcommand.does}' for name, subcommand in SUBCOMMANDS.items()]
    return '\n'.join(
        [
            f'usage: {called} SUBCOMMAND …',
            '',
            'Knowledge distillation for detectors, segmentors and depth estimators, as plug-ins for OpenMMLab.',
            '',
            *lines,
            '',
            f'{called} SUBCOMMAND --help says more of one; {called} --version says which kddense this is.',
        ]
    )


def _version() -> str:
    from importlib import metadata

    try:
        return f'kddense {metadata.version("kddense")}'
    except metadata.PackageNotFoundError:
        return 'kddense, not installed but found on the import path'


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, SUBCOMMANDS, n=1, cutoff=0.5)
    return f"there is no subcommand '{name}'" + (f", did you mean '{near[0]}'?" if near else '')


def _ignore_known_noise() -> None:
    """Leave out the warnings that OpenMMLab gives on every start, and that a user can do nothing about."""
    warnings.filterwarnings('ignore', message='pkg_resources')  # mmengine's way to read 'package::path' configs

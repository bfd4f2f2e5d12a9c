"""The page of the report: one HTML file that needs no network."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import mmengine
import torch
from jinja2 import Environment, PackageLoader

from kddense.training.runs import COMMAND, Run

from .contents import Report
from .evaluation import Evaluation
from .gains import Gain
from .metrics import metric_by_class
from .story import story_of


def render(report: Report) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader('kddense.report'), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    metric = metric_by_class(report.measure)
    return environment.get_template('report.html').render(
        report=report,
        headline=report.metrics[0] if report.metrics else None,
        story=story_of(report),
        measure_metric=metric,
        by_distance=metric.sign < 0,
        classes=_class_rows(report),
        commands={entrant.title: command_of(entrant.run) for entrant in report.entrants},
        configs={entrant.title: _config_text(entrant.run) for entrant in report.entrants},
        nowhere=Path(),
        machine=machine(),
        proposals=next((one.costs.proposals for one in report.entrants if one.costs), None),
        versions=versions(),
        now=datetime.now().astimezone().strftime('%d %B %Y, %H:%M %Z'),
    )


@dataclass(frozen=True)
class _ClassRow:
    name: str
    values: list[float | None]
    gain: Gain | None


def _class_rows(report: Report) -> list[_ClassRow]:
    """Return a row for each class: what each entrant measured, and what the first distilled student gained."""
    evaluations = [entrant.evaluation or Evaluation({}) for entrant in report.entrants]
    gains = next((one.by_class for one in report.comparisons if one.against is report.plain), {})
    names = dict.fromkeys(name for one in evaluations for name in one.by_class)
    return [_ClassRow(name, [one.by_class.get(name) for one in evaluations], gains.get(name)) for name in names]


def _config_text(run: Run) -> str:
    """Return the whole config of a run, as mmengine left it in the work_dir."""
    if run.config_file is not None:
        return run.config_file.read_text()
    return run.config.pretty_text if run.config is not None else ''


def command_of(run: Run) -> str:
    """Return the command that trained a run: as it was noted, or one that trains it again."""
    noted = run.folder / COMMAND
    if noted.is_file():
        return noted.read_text().strip()
    if run.config_file is None:
        return ''
    return shlex.join(['kddense', 'train', str(run.config_file), '--work-dir', str(run.folder)])


def machine() -> str:
    """Say what the figures were measured on."""
    processor = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.is_file():
        names = [line.partition(':')[2].strip() for line in info.read_text().splitlines() if 'model name' in line]
        processor = names[0] if names else processor
    gpu = f', {torch.cuda.get_device_name()}' if torch.cuda.is_available() else ''
    return f'{processor}, {os.cpu_count()} cores, PyTorch on {torch.get_num_threads()} of them{gpu}'


def versions() -> dict[str, str]:
    """Return the versions of what made the page."""
    found = {'Python': platform.python_version(), 'PyTorch': torch.__version__, 'MMEngine': mmengine.__version__}
    for package in ('mmdet', 'mmseg'):
        if importlib.util.find_spec(package) is not None:
            found[package] = importlib.import_module(package).__version__
    return {'kddense': _own_version(), **found}


def _own_version() -> str:
    try:
        return importlib.metadata.version('kddense')
    except importlib.metadata.PackageNotFoundError:  # a checkout on the path
        return 'not installed'

"""The page of the report: what stands on it, and its HTML, which needs no network."""

from __future__ import annotations

import base64
import importlib.util
import os
import platform
import shlex
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import cv2
import mmengine
import numpy as np
import torch
from jinja2 import Environment, PackageLoader
from mmengine.config import Config
from torch import nn

import kddense

from .evaluation import Evaluation, RunningCosts
from .examples import Example
from .metrics import Metric, in_order
from .runs import COMMAND, Run

CLASS_METRICS = {
    'AP': Metric('AP', 'AP', digits=1, sign=1),
    'IoU': Metric('IoU', 'IoU', digits=1, sign=1),
    'abs rel': Metric('abs rel', 'abs rel', digits=3, sign=-1),
}


@dataclass
class Entrant:
    """One column of the report.

    Attributes:
        title: How it is called.
        role: ``'teacher'``, ``'plain'`` or ``'distilled'``.
        colour: Of its curves.
        run: What its work_dir tells.
        config: The config of the model itself, without a teacher; ``None`` if it is not known.
        model: The trained model; ``None`` if it could not be built.
        logged: Whether its figures are those of the last validation in its log.
        evaluation: What it measured now, or else in its log.
        costs: What it costs to run.
    """

    title: str
    role: str
    colour: str
    run: Run
    config: Config | None = None
    model: nn.Module | None = None
    logged: bool = False
    evaluation: Evaluation | None = None
    costs: RunningCosts | None = None
    examples: list[Example] = field(default_factory=list)

    def metric(self, key: str) -> float | None:
        """Return what it measured of a metric, if it did."""
        return self.evaluation.metrics.get(key) if self.evaluation else None


@dataclass(frozen=True)
class Figure:
    """A picture with its caption, as the page embeds it."""

    caption: str
    source: str


@dataclass
class Report:
    """What the page shows.

    Attributes:
        entrants: The columns: teacher, plain student, distilled students.
        split: What was measured on, ``'val'`` or ``'test'``.
        command: How to make the page again.
        faults: What is missing or amiss, a sentence each.
        predictions: For each image a row: ground truth, then what each model predicts.
        energies: For each image a row: feature energy of teacher, untrained and trained students.
        pairs: For each image a row of affinities.
        curves: Figures by the heading that they stand under.
    """

    entrants: list[Entrant]
    split: str
    command: str
    faults: list[str] = field(default_factory=list)
    predictions: list[tuple[str, list[Figure]]] = field(default_factory=list)
    energies: list[tuple[str, list[Figure]]] = field(default_factory=list)
    pairs: list[tuple[str, list[Figure]]] = field(default_factory=list)
    curves: dict[str, list[Figure]] = field(default_factory=dict)

    @property
    def metrics(self) -> list[Metric]:
        """What was measured, the one that counts most first."""
        return in_order(key for entrant in self.entrants if entrant.evaluation for key in entrant.evaluation.metrics)

    @property
    def size(self) -> str:
        """Width and height of the image that latency was measured on."""
        examples = next((entrant.examples for entrant in self.entrants if entrant.examples), [])
        return f'{examples[0].image.shape[1]}x{examples[0].image.shape[0]}' if examples else ''

    @property
    def plain(self) -> Entrant | None:
        """The plain student, if there is one."""
        return next((entrant for entrant in self.entrants if entrant.role == 'plain'), None)

    def summary(self) -> list[str]:
        """Return a line for each model, for a terminal."""
        return [self._line(entrant) for entrant in self.entrants]

    def _line(self, entrant: Entrant) -> str:
        parts = [f'{entrant.title:<18}']
        if self.metrics:
            headline = self.metrics[0]
            parts.append(f'{headline.written(entrant.metric(headline.key)):>6} {headline.label}')
            if entrant.role == 'distilled' and self.plain is not None:
                gain = headline.gain(self.plain.metric(headline.key), entrant.metric(headline.key))
                parts.append(f'({gain})' if gain else '')
        if entrant.costs is not None:
            parts.append(f'{entrant.costs.parameters / 1e6:.2f} M parameters, {entrant.costs.latency:.0f} ms an image')
        return '  '.join(part for part in parts if part)


def picture_source(picture: np.ndarray) -> str:
    """Return a picture ``(H, W, 3)``, RGB, as a page embeds it."""
    done, data = cv2.imencode('.jpg', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert done
    return f'data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}'


def svg_source(svg: str) -> str:
    return f'data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}'


def render(report: Report) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader('kddense.report'), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    measure = next(
        (one.evaluation.measure for one in report.entrants if one.evaluation and one.evaluation.by_class), ''
    )
    metric = CLASS_METRICS.get(measure, Metric.of(measure))
    return environment.get_template('report.html').render(
        report=report,
        headline=report.metrics[0] if report.metrics else None,
        measure=measure,
        measure_metric=metric,
        by_distance=metric.sign < 0,
        classes=_class_rows(report, metric),
        commands={entrant.title: command_of(entrant.run) for entrant in report.entrants},
        configs={entrant.title: _config_text(entrant.run) for entrant in report.entrants},
        nowhere=Path(),
        machine=machine(),
        versions=versions(),
        now=datetime.now().astimezone().strftime('%d %B %Y, %H:%M %Z'),
    )


@dataclass(frozen=True)
class _ClassRow:
    name: str
    values: list[float | None]
    gain: str
    verdict: str


def _class_rows(report: Report, metric: Metric) -> list[_ClassRow]:
    """Return a row for each class: what each entrant measured, and what the first distilled student gained."""
    evaluations = [entrant.evaluation or Evaluation({}) for entrant in report.entrants]
    plain, taught = (
        next((one for one, entrant in zip(evaluations, report.entrants, strict=True) if entrant.role == role), None)
        for role in ('plain', 'distilled')
    )
    rows = []
    for name in dict.fromkeys(name for one in evaluations for name in one.by_class):
        before, after = (one.by_class.get(name) if one else None for one in (plain, taught))
        values = [one.by_class.get(name) for one in evaluations]
        rows.append(_ClassRow(name, values, metric.gain(before, after), metric.verdict(before, after)))
    return rows


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
    return shlex.join(['python', 'tools/train.py', str(run.config_file), '--work-dir', str(run.folder)])


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
    return {'kddense': kddense.__version__, **found}

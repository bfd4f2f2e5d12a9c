"""What a work_dir of mmengine holds: config, log, checkpoint; and what it lacks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kddense.configs import let_types_be_found

from .checkpoints import find_checkpoint

COMMAND = 'command.txt'  # in a work_dir: the command that trained it, if anybody noted it
TIMES = ('time', 'data_time')
ENVIRONMENT = ('Python', 'PyTorch', 'TorchVision', 'OpenCV', 'MMEngine', 'seed', 'GPU 0')


@dataclass(frozen=True)
class Run:
    """One training, as its work_dir tells of it.

    Attributes:
        title: How the report calls it.
        folder: The work_dir.
        config: Its config, if there is one.
        config_file: The file that it was read from.
        checkpoint: Its last checkpoint, if there is one.
        steps: What was logged of training, in the order of the iterations; ``'step'`` is the iteration.
        validations: What was logged of validation; ``'step'`` is the epoch, or the iteration of iteration-based loops.
        environment: Versions and the seed, as the log gives them.
        faults: What is missing or amiss, a sentence each.
    """

    title: str
    folder: Path
    config: Config | None = None
    config_file: Path | None = None
    checkpoint: Path | None = None
    steps: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def losses(self) -> list[str]:
        """Return the names of what training logged, besides times, rates and norms."""
        names = {key: None for step in self.steps for key in step}
        return [name for name in names if 'loss' in name]

    def scores(self) -> list[str]:
        """Return the names of the discriminators' scores."""
        names = {key: None for step in self.steps for key in step}
        return [name for name in names if name.startswith('distill.') and '.score_' in name]

    def metrics(self) -> dict[str, float]:
        """Return what the last validation measured."""
        return metrics_of(self.validations[-1]) if self.validations else {}

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """Return iterations and values of what training logged; steps where it is NaN or infinite are left out."""
        return _curve(self.steps, name)

    def metric_curve(self, name: str) -> tuple[list[float], list[float]]:
        """Return epochs (or iterations) and values of a metric."""
        return _curve(self.validations, name)

    @property
    def is_interrupted(self) -> bool:
        """Whether it ended before it had trained as long as its config says."""
        reached, planned, _ = _progress(self)
        return bool(self.steps) and reached < planned

    @property
    def minutes(self) -> float | None:
        """How long its steps took, without validations; ``None`` if that was not logged."""
        spans, last = [], 0.0
        for step in self.steps:
            spans.append(step.get('time', math.nan) * (step['step'] - last))
            last = step['step']
        total = sum(spans) / 60
        return total if spans and math.isfinite(total) else None

    @property
    def counts_epochs(self) -> bool:
        """Whether validations are numbered by epoch."""
        return any('epoch' in step for step in self.steps)


def metrics_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a validation without its times and its number."""
    return {
        key: float(value)
        for key, value in record.items()
        if key not in (*TIMES, 'step') and isinstance(value, (int, float))
    }


def _curve(records: Iterable[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    points = [(record['step'], record[name]) for record in records if math.isfinite(record.get(name, math.nan))]
    return [step for step, _ in points], [value for _, value in points]


def read_run(folder: str | Path, title: str) -> Run:
    """Read a work_dir; whatever is missing becomes a sentence in :attr:`Run.faults`.

    Args:
        folder: A work_dir, or a folder of ``kddense measure`` with one for each seed, of which the first stands for
            all.
        title: How to call the run.
    """
    folder = Path(folder)
    seeds = seed_folders(folder)
    if not folder.is_dir():
        return Run(title, folder, faults=[f'{title}: there is no folder {folder}'])
    if seeds and not any(folder.glob('*.py')):
        folder = seeds[0]
    faults: list[str] = []
    config_file, config = _read_config(folder, title, faults)
    checkpoint = find_checkpoint(folder)
    if checkpoint is None:
        faults.append(f'{title}: {folder} holds no checkpoint that is whole, so it is neither tested nor shown at work')
    steps, validations = _read_log(folder, title, faults)
    run = Run(title, folder, config, config_file, checkpoint, steps, validations, _environment(folder), faults)
    faults.extend(_faults_of_training(run))
    return run


def seed_folders(folder: Path) -> list[Path]:
    """Return the work_dirs of the seeds that ``kddense measure`` trained with, in order."""
    found = [path for path in folder.glob('seed_*') if path.is_dir() and path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def _read_config(folder: Path, title: str, faults: list[str]) -> tuple[Path | None, Config | None]:
    files = [*folder.glob('*.py'), *folder.glob('*/vis_data/config.py')]
    if not files:
        faults.append(f'{title}: {folder} holds no config (mmengine writes one when a training starts)')
        return None, None
    at_top = [file for file in files if file.parent == folder]
    file = max(at_top or files, key=lambda path: path.stat().st_mtime)
    try:
        config = Config.fromfile(str(file))
    except Exception as error:  # a config is code, which may fail in any way
        faults.append(f'{title}: the config {file} cannot be read: {error}')
        return file, None
    let_types_be_found(config)
    return file, config


def _read_log(folder: Path, title: str, faults: list[str]) -> tuple[list[dict], list[dict]]:
    """Put the logs of all starts of a training together; what a resumed one did again counts once."""
    steps: dict[float, dict] = {}
    validations: dict[float, dict] = {}
    files = logs_of(folder)
    for file in files:
        records, damaged = _read_records(file)
        if damaged:
            faults.append(f'{title}: {damaged} damaged or cut-off lines of {file} were left out')
        first = min((record['step'] for record in records if 'iter' in record), default=math.inf)
        steps = {step: record for step, record in steps.items() if step < first}
        for record in records:
            (steps if 'iter' in record else validations)[record['step']] = record
    if not steps:
        where = 'no log (*/vis_data/scalars.json)' if not files else 'a log without a single step'
        faults.append(f'{title}: {folder} holds {where}, so there are no training curves')
    return [steps[key] for key in sorted(steps)], [validations[key] for key in sorted(validations)]


def _read_records(file: Path) -> tuple[list[dict], int]:
    records, damaged = [], 0
    for line in file.read_text(errors='replace').splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            damaged += 1
            continue
        if isinstance(record, dict) and 'step' in record:
            records.append(record)
    return records, damaged


def logs_of(folder: Path) -> list[Path]:
    """Return the logs of all starts of a training, the first one first."""
    return sorted(folder.glob('*/vis_data/scalars.json'))


def last_record(folder: Path, of_training: bool, but: Container[Path] = ()) -> dict[str, Any] | None:
    """Return what a training, which may be going on, logged last; ``None`` before there is such a record.

    Args:
        folder: Its work_dir.
        of_training: Whether a step is wanted, or a validation.
        but: Logs to leave out, of :func:`logs_of`.
    """
    for file in reversed([file for file in logs_of(folder) if file not in but]):
        records = [record for record in _read_records(file)[0] if ('iter' in record) == of_training]
        if records:
            return records[-1]
    return None


def _faults_of_training(run: Run) -> list[str]:
    faults = []
    for name in run.losses():
        bad = [step['step'] for step in run.steps if name in step and not math.isfinite(step[name])]
        if bad:
            faults.append(
                f'{run.title}: {name} is NaN or infinite in {len(bad)} of {len(run.steps)} logged steps, first at iteration '
                f'{bad[0]:g}; the curve leaves them out'
            )
    for name in dict.fromkeys(key for record in run.validations for key in metrics_of(record)):
        if not math.isfinite(run.validations[-1].get(name, 0)):
            faults.append(f'{run.title}: {name} of the last validation is NaN')
    reached, planned, unit = _progress(run)
    if run.steps and reached < planned:
        faults.append(f'{run.title}: the training was interrupted at {unit} {reached:g} of {planned:g}')
    return faults


def _progress(run: Run) -> tuple[float, float, str]:
    """Return how far a training came, how far it was to go, and in which unit."""
    loop = (run.config or {}).get('train_cfg') or {}
    epochs = loop.get('max_epochs')
    planned = epochs or loop.get('max_iters') or 0
    unit = 'epoch' if epochs else 'iteration'
    reached = [0.0]
    if run.checkpoint is not None and run.checkpoint.stem.startswith(('epoch_', 'iter_')):
        reached.append(float(run.checkpoint.stem.rpartition('_')[2]))
    if run.validations:
        reached.append(run.validations[-1]['step'])
    if run.steps:  # an epoch that was logged need not have come to its end
        reached.append(run.steps[-1]['epoch'] - 1 if epochs else run.steps[-1]['step'])
    return max(reached), planned, unit


def _environment(folder: Path) -> dict[str, str]:
    """Return versions and the seed from the head of the newest text log."""
    logs = sorted(folder.glob('*/*.log'))
    if not logs:
        return {}
    head = logs[-1].read_text(errors='replace')[:20000].partition('Config:')[0]
    found = re.findall(r'^ {4}(\w[\w ]*): (.+)$', head, flags=re.MULTILINE)
    return {key: value.strip() for key, value in found if key in ENVIRONMENT}

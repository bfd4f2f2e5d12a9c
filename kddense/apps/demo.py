"""The demo: street scenes, a teacher, a plain student, a distilled student, and a report, in one call.

Every step is what a user would type: the scripts of mmdet or mmseg train, each in a process of its own. What is done is not
done again, and what was cut off goes on.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import get_installed_path

from kddense.apps.street_scenes import StreetScenes
from kddense.report.metrics import Metric
from kddense.report.report import write_report
from kddense.report.runs import COMMAND, find_checkpoint, last_record

SCENES = 'STREET_SCENES'  # the environment variable by which the configs know where the scenes are
STATE = 'demo.json'
HEADLINES = ('coco/bbox_mAP', 'mIoU', 'abs_rel')


@dataclass(frozen=True)
class Task:
    """What a demo trains: names of configs in ``configs/demo``, and the library whose script trains them."""

    package: str
    teacher: str
    plain: str
    distilled: str


TASKS = {
    'detection': Task(
        'mmdet',
        'faster-rcnn_r18-w24_street-scenes.py',
        'faster-rcnn_r18-w16_street-scenes.py',
        'chen_r18-w24_r18-w16_street-scenes.py',
    ),
    'segmentation': Task(
        'mmseg',
        'pspnet_r18-w16_street-scenes.py',
        'pspnet_r18-w8_street-scenes.py',
        'skd_r18-w16_r18-w8_pspnet_street-scenes.py',
    ),
    'depth': Task(
        'mmseg',
        'depth_r18-w24_street-scenes.py',
        'depth_r18-w8_street-scenes.py',
        'ail_r18-w24_r18-w8_depth_street-scenes.py',
    ),
}
ROLES = {'teacher': 'teacher', 'plain': 'plain student', 'distilled': 'distilled student'}


class DemoError(RuntimeError):
    """A step of the demo that failed, or something in its way; the message says what to do."""


class Teller:
    """Says how far the demo is: a line that renews itself on a terminal, a line now and then elsewhere.

    Args:
        every: Seconds between two lines where they cannot be renewed.
    """

    def __init__(self, every: float = 15.0) -> None:
        self.every = every
        self._said = -math.inf
        self._width = 0

    def done(self, text: str) -> None:
        """Say that something is done, on a line that stays."""
        print(f'\r{text:<{self._width}}' if self._width else text, flush=True)
        self._width, self._said = 0, -math.inf

    def progress(self, text: str) -> None:
        """Say how far something is."""
        if sys.stdout.isatty():
            text = text[: shutil.get_terminal_size().columns - 1]  # a line that wraps cannot be renewed
            print(f'\r{text:<{self._width}}', end='', flush=True)
            self._width = len(text)
        elif time.monotonic() - self._said >= self.every:
            print(text, flush=True)
            self._said = time.monotonic()


@dataclass
class Demo:
    """One demo.

    Args:
        task: ``'detection'``, ``'segmentation'`` or ``'depth'``.
        configs: The folder ``configs/demo``.
        work_dir: Where the trainings and the report go.
        scenes: Where the street scenes are or go; demos of other tasks can share them.
        images: Street scenes to make, to learn from and to validate on.
        changes: To the configs of all trainings, by key.
        tell: Who says how far it is.

    Raises:
        ValueError: If the task is unknown.
    """

    task: str
    configs: Path
    work_dir: Path
    scenes: Path
    images: tuple[int, int] = (400, 100)
    changes: Mapping[str, Any] = field(default_factory=dict)
    tell: Teller = field(default_factory=Teller)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f'the task must be one of {", ".join(TASKS)}, got {self.task!r}')

    def run(self) -> list[str]:
        """Do whatever is not done yet.

        Returns:
            The summary: a line for each model, one on the time it took, and one on where the report is.

        Raises:
            DemoError: If a training fails, or if the folders hold a demo of other settings.
            ValueError: If the folder of the scenes holds something else.
            OSError: If a folder cannot be written to.
        """
        os.environ[SCENES] = str(self.scenes)  # configs read it, here and in the processes that train
        self._make_scenes()
        self.work_dir.mkdir(parents=True, exist_ok=True)
        teacher = self._training('teacher')
        # Nets as small as these gain nothing from a second thread, so two of them share two cores.
        self._train('[2/4]', teacher, self._training('plain'))
        config = self.configs / TASKS[self.task].teacher
        places = {'model.teacher.config': str(config), 'model.teacher.checkpoint': str(teacher.checkpoint())}
        self._train('[3/4]', self._training('distilled', places))
        return self._report()

    @property
    def page(self) -> Path:
        """The report."""
        return self.work_dir / 'report.html'

    def _make_scenes(self) -> None:
        train, val = self.images
        scenes = StreetScenes(train, val)
        self.tell.progress(f'[1/4] street scenes: {train + val} images, in {self.scenes}')
        scenes.write(self.scenes, progress=sys.stderr.isatty())
        self.tell.done(f'[1/4] {train + val} street scenes are in {self.scenes}')

    def _training(self, role: str, places: Mapping[str, str] | None = None) -> Training:
        return Training(
            title=ROLES[role],
            config=self.configs / getattr(TASKS[self.task], role),
            folder=self.work_dir / role,
            package=TASKS[self.task].package,
            images=self.images[0],
            changes=self.changes,
            places=places or {},
        )

    def _train(self, step: str, *trainings: Training) -> None:
        """Train models side by side, each to its end, from where an earlier call stopped."""
        waiting = [training for training in trainings if not training.is_done()]
        for training in trainings:
            if training not in waiting:
                self.tell.done(f'{step} {training.title} is trained, in {training.folder}')
        threads = max(1, (os.cpu_count() or 1) // max(1, len(waiting)))
        with ExitStack() as running:
            for training in waiting:
                running.enter_context(training.running(threads))
            while waiting:
                self.tell.progress(f'{step} {"; ".join(training.progress() for training in waiting)}')
                time.sleep(0.5)
                for training in [training for training in waiting if training.has_ended()]:
                    waiting.remove(training)
                    training.finish()
                    self.tell.done(f'{step} {training.title} is trained, in {training.seconds / 60:.1f} minutes')

    def _report(self) -> list[str]:
        state = self.work_dir / STATE
        trainings = {role: _read_state(self.work_dir / role / STATE) for role in ROLES}
        done = _read_state(state)
        if done.get('trainings') == trainings and self.page.is_file():
            self.tell.done(f'[4/4] the report is there: {self.page}')
            return list(done['summary'])
        folders = {role: self.work_dir / role for role in ROLES}
        command = ['python', 'tools/report.py', '--out', self.page]
        for role, folder in folders.items():
            command.extend([f'--{role}', folder])
        report = write_report(
            self.page,
            [folders['distilled']],
            folders['plain'],
            folders['teacher'],
            command=shlex.join(map(str, command)),
            say=lambda text: self.tell.progress(f'[4/4] report: {text}'),
        )
        self.tell.done(f'[4/4] the report is written: {self.page}')
        minutes = {ROLES[role]: trainings[role]['seconds'] / 60 for role in ROLES}
        times = ', '.join(f'{title} {time:.1f}' for title, time in minutes.items())
        summary = [
            *report.summary(),
            f'minutes of training: {times}; measured on {self.images[1]} images, one seed',
            f'the report is {self.page}',
        ]
        _write_state(state, dict(trainings=trainings, summary=summary))
        return summary


@dataclass(eq=False)
class Training:
    """One training with the script of mmdet or mmseg, in a process of its own.

    Args:
        title: How to call it.
        config: What to train.
        folder: Its work_dir.
        package: ``'mmdet'`` or ``'mmseg'``.
        images: How many images it learns from.
        changes: To the config, by key, as after ``--cfg-options``.
        places: More of them, which only say where files are: a work_dir may be moved.
    """

    title: str
    config: Path
    folder: Path
    package: str
    images: int
    changes: Mapping[str, Any]
    places: Mapping[str, str]

    def __post_init__(self) -> None:
        self.seconds = 0.0
        self._begun = time.monotonic()
        self._is_finished = False
        self._process: subprocess.Popen[bytes] | None = None
        self._first: tuple[float, float] | None = None  # when the first step was heard of, and its number

    def is_done(self) -> bool:
        """Tell whether it came to its end in an earlier call; raise a :class:`DemoError` if something else is there."""
        state = _read_state(self.folder / STATE)
        if state and state['settings'] != self._settings:
            raise DemoError(
                f'{self.folder} holds a training of other settings: delete it, or choose another folder with --work-dir'
            )
        return bool(state.get('done'))

    @contextmanager
    def running(self, threads: int) -> Iterator[None]:
        """Train in the background, and end with the block, at the latest."""
        self._begun = time.monotonic() - _read_state(self.folder / STATE).get('seconds', 0.0)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_state(done=False)
        command = self._command()
        (self.folder / COMMAND).write_text(f'{SCENES}={shlex.quote(os.environ[SCENES])} {shlex.join(command)}\n')
        with self._log.open('a') as output:
            environment = {'OMP_NUM_THREADS': str(threads), **os.environ}
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            yield
        finally:
            self._process.terminate()
            self._process.wait()
            if not self._is_finished:
                self._write_state(done=False)

    def has_ended(self) -> bool:
        """Tell whether the process has come to its end."""
        return self._process is not None and self._process.poll() is not None

    def finish(self) -> None:
        """Note that it is done, or raise a :class:`DemoError` with the reason if it failed."""
        assert self._process is not None
        if self._process.returncode != 0:
            lines = [line for line in self._log.read_text().splitlines() if line.strip()]
            raise DemoError(
                f'{self.title} stopped with an error: {lines[-1] if lines else "no output"}; see {self._log}'
            )
        self._write_state(done=True)
        self._is_finished = True

    def checkpoint(self) -> Path:
        """Return its last checkpoint."""
        found = find_checkpoint(self.folder)
        if found is None:
            raise DemoError(f'{self.folder} holds no checkpoint any more: delete the folder and run the command again')
        return found

    def progress(self) -> str:
        """Say how far it is."""
        record, steps = last_record(self.folder, of_training=True), self._steps
        if record is None:
            return f'{self.title}: starting'
        self._first = self._first or (time.monotonic(), record['step'])
        left = _left(time.monotonic() - self._first[0], record['step'] - self._first[1], steps - record['step'])
        validation = last_record(self.folder, of_training=False) or {}
        metrics = [
            f', {Metric.of(key).label} {Metric.of(key).written(validation[key])}'
            for key in HEADLINES
            if key in validation
        ]
        return f'{self.title} {record["step"]:.0f}/{steps}, loss {record.get("loss", math.nan):.2f}{"".join(metrics)}{left}'

    @property
    def _log(self) -> Path:
        return self.folder / 'output.log'

    def _write_state(self, done: bool) -> None:
        self.seconds = time.monotonic() - self._begun
        _write_state(self.folder / STATE, dict(settings=self._settings, done=done, seconds=self.seconds))

    def _command(self) -> list[str]:
        script = Path(get_installed_path(self.package)) / '.mim' / 'tools' / 'train.py'
        command = [sys.executable, str(script), str(self.config), '--work-dir', str(self.folder), '--resume']
        changes = {**self.changes, **self.places}
        if changes:
            command.extend(['--cfg-options', *(f'{key}={value}' for key, value in changes.items())])
        return command

    @cached_property
    def _steps(self) -> int:
        config = self._read()
        if 'max_iters' in config.train_cfg:
            return int(config.train_cfg.max_iters)
        return math.ceil(self.images / config.train_dataloader.batch_size) * int(config.train_cfg.max_epochs)

    def _read(self) -> Config:
        config = Config.fromfile(self.config, import_custom_modules=False)
        config.merge_from_dict(dict(self.changes))
        return config

    @cached_property
    def _settings(self) -> str:
        """Return a digest of what makes this training what it is."""
        text = json.dumps(self._read().to_dict(), sort_keys=True, default=str).replace(os.environ[SCENES], SCENES)
        return hashlib.sha256(f'{self.images} {text}'.encode()).hexdigest()


def _left(seconds: float, done: float, to_do: float) -> str:
    """Say how long ``to_do`` steps will take, if ``done`` of them took so many seconds; nothing before that is known."""
    if done <= 0:
        return ''
    left = round(seconds / done * max(to_do, 0))
    return f', about {left // 60}:{left % 60:02} left'


def _read_state(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError):
        return {}


def _write_state(file: Path, state: Mapping[str, Any]) -> None:
    unfinished = file.with_name(f'{file.name}.tmp')
    unfinished.write_text(json.dumps(state, indent=2))
    unfinished.replace(file)

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
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import get_installed_path

from kddense.datasets.street_scenes import StreetScenes
from kddense.visualization.report import write_report
from kddense.visualization.runs import COMMAND, find_checkpoint, last_record

SCENES = 'STREET_SCENES'  # the environment variable by which the configs know where the scenes are
STATE = 'demo.json'


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
        'faster-rcnn_r18-w32_street-scenes.py',
        'faster-rcnn_r18-w16_street-scenes.py',
        'chen_r18-w32_r18-w16_street-scenes.py',
    ),
    'segmentation': Task(
        'mmseg',
        'pspnet_r18-w16_street-scenes.py',
        'pspnet_r18-w8_street-scenes.py',
        'skd_r18-w16_r18-w8_pspnet_street-scenes.py',
    ),
    'depth': Task(
        'mmseg',
        'depth_r18-w32_street-scenes.py',
        'depth_r18-w8_street-scenes.py',
        'skd_r18-w32_r18-w8_depth_street-scenes.py',
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
        teacher = self._train('teacher', 2)
        self._train('plain', 3)
        config = self.configs / TASKS[self.task].teacher
        self._train('distilled', 4, {'model.teacher.config': str(config), 'model.teacher.checkpoint': str(teacher)})
        return self._report()

    @property
    def page(self) -> Path:
        """The report."""
        return self.work_dir / 'report.html'

    def _make_scenes(self) -> None:
        train, val = self.images
        scenes = StreetScenes(train, val)
        self.tell.progress(f'[1/5] street scenes: {train + val} images, in {self.scenes}')
        scenes.write(self.scenes, progress=sys.stderr.isatty())
        self.tell.done(f'[1/5] {train + val} street scenes are in {self.scenes}')

    def _train(self, role: str, number: int, places: Mapping[str, str] | None = None) -> Path:
        """Train one model, or go on with it, and return its last checkpoint."""
        folder = self.work_dir / role
        training = Training(
            config=self.configs / getattr(TASKS[self.task], role),
            folder=folder,
            package=TASKS[self.task].package,
            changes=self.changes,
            places=places or {},
            images=self.images[0],
            title=f'[{number}/5] {ROLES[role]}',
        )
        training.run(self.tell)
        checkpoint = find_checkpoint(folder)
        if checkpoint is None:
            raise DemoError(f'{folder} holds no checkpoint any more: delete the folder and run the same command again')
        return checkpoint

    def _report(self) -> list[str]:
        state = self.work_dir / STATE
        trainings = {role: _read_state(self.work_dir / role / STATE) for role in ROLES}
        done = _read_state(state)
        if done.get('trainings') == trainings and self.page.is_file():
            self.tell.done(f'[5/5] the report is there: {self.page}')
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
            say=lambda text: self.tell.progress(f'[5/5] report: {text}'),
        )
        self.tell.done(f'[5/5] the report is written: {self.page}')
        minutes = {ROLES[role]: trainings[role]['seconds'] / 60 for role in ROLES}
        times = ', '.join(f'{title} {time:.1f}' for title, time in minutes.items())
        summary = [
            *report.summary(),
            f'trained in {sum(minutes.values()):.1f} minutes ({times}), measured on {self.images[1]} images, one seed',
            f'the report is {self.page}',
        ]
        _write_state(state, dict(trainings=trainings, summary=summary))
        return summary


@dataclass(frozen=True)
class Training:
    """One training with the script of mmdet or mmseg.

    Args:
        config: What to train.
        folder: Its work_dir.
        package: ``'mmdet'`` or ``'mmseg'``.
        changes: To the config, by key, as after ``--cfg-options``.
        places: More of them, which only say where files are: a work_dir may be moved.
        images: How many images it learns from.
        title: How to call it.
    """

    config: Path
    folder: Path
    package: str
    changes: Mapping[str, Any]
    places: Mapping[str, str]
    images: int
    title: str

    def run(self, tell: Teller) -> None:
        """Train to the end, from where an earlier call stopped."""
        settings = self._settings()
        state = _read_state(self.folder / STATE)
        if state and state['settings'] != settings:
            raise DemoError(
                f'{self.folder} holds a training of other settings: delete it, or choose another folder with --work-dir'
            )
        if state.get('done'):
            tell.done(f'{self.title} is trained, in {self.folder}')
            return
        before = state.get('seconds', 0.0)
        started = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_state(self.folder / STATE, dict(settings=settings, done=False, seconds=before))
        try:
            self._call(tell)
        finally:
            seconds = before + time.monotonic() - started
            _write_state(self.folder / STATE, dict(settings=settings, done=False, seconds=seconds))
        _write_state(self.folder / STATE, dict(settings=settings, done=True, seconds=seconds))
        tell.done(f'{self.title} is trained, in {seconds / 60:.1f} minutes')

    def _call(self, tell: Teller) -> None:
        command = self._command()
        (self.folder / COMMAND).write_text(f'{SCENES}={shlex.quote(os.environ[SCENES])} {shlex.join(command)}\n')
        log = self.folder / 'output.log'
        with log.open('a') as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            try:
                self._watch(process, tell)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        if process.returncode != 0:
            reason = next((line for line in reversed(log.read_text().splitlines()) if line.strip()), '')
            raise DemoError(f'{self.title} stopped with an error: {reason}; see {log}')

    def _command(self) -> list[str]:
        script = Path(get_installed_path(self.package)) / '.mim' / 'tools' / 'train.py'
        command = [sys.executable, str(script), str(self.config), '--work-dir', str(self.folder), '--resume']
        changes = {**self.changes, **self.places}
        if changes:
            command.extend(['--cfg-options', *(f'{key}={value}' for key, value in changes.items())])
        return command

    def _watch(self, process: subprocess.Popen[bytes], tell: Teller) -> None:
        steps = self._steps()
        first: tuple[float, float] | None = None  # when the first step was heard of, and its number
        while process.poll() is None:
            record = last_record(self.folder, of_training=True)
            if record is None:
                tell.progress(f'{self.title}: starting')
            else:
                first = first or (time.monotonic(), record['step'])
                left = _left(time.monotonic() - first[0], record['step'] - first[1], steps - record['step'])
                tell.progress(f'{self.title}: {self._progress(record, steps)}{left}')
            time.sleep(0.5)

    def _progress(self, record: Mapping[str, float], steps: int) -> str:
        validation = last_record(self.folder, of_training=False) or {}
        metrics = [
            f'{key.rpartition("/")[2]} {validation[key]:.3g}'
            for key in ('coco/bbox_mAP', 'mIoU', 'abs_rel')
            if key in validation
        ]
        return ', '.join(
            [f'iteration {record["step"]:.0f} of {steps}', f'loss {record.get("loss", math.nan):.3f}', *metrics]
        )

    def _steps(self) -> int:
        config = self._read()
        if 'max_iters' in config.train_cfg:
            return int(config.train_cfg.max_iters)
        return math.ceil(self.images / config.train_dataloader.batch_size) * int(config.train_cfg.max_epochs)

    def _read(self) -> Config:
        config = Config.fromfile(self.config, import_custom_modules=False)
        config.merge_from_dict(dict(self.changes))
        return config

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

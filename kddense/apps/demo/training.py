"""One training of the demo, in a process of its own."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kddense.files import write_whole
from kddense.models.efficientnet_lite import packaged_weights
from kddense.report.metrics import Metric
from kddense.training.checkpoints import find_checkpoint
from kddense.training.runs import COMMAND, last_record, logs_of

SCENES = 'STREET_SCENES'  # the environment variable by which the configs know where the scenes are
STATE = 'demo.json'
PATIENCE = 60.0  # seconds for a step, a validation and a checkpoint
HEADLINES = ('coco/bbox_mAP', 'mIoU', 'abs_rel')


class DemoError(RuntimeError):
    """A step of the demo that failed, or something in its way; the message says what to do."""


@dataclass(eq=False)
class Training:
    """One training with ``kddense train``, in a process of its own.

    Args:
        title: How to call it.
        config: What to train.
        folder: Its work_dir.
        images: How many images it learns from.
        changes: To the config, by key, as after ``--cfg-options``.
        places: More of them, which only say where files are: a work_dir may be moved.
    """

    title: str
    config: Path
    folder: Path
    images: int
    changes: Mapping[str, Any]
    places: Mapping[str, str]

    def __post_init__(self) -> None:
        self.seconds = 0.0
        self._begun = time.monotonic()
        self._is_finished = self._is_interrupted = False
        self._process: subprocess.Popen[bytes] | None = None
        self._first: tuple[float, float] | None = None  # when the first step was heard of, and its number
        self._logs_before: frozenset[Path] = frozenset()  # of earlier calls

    def is_done(self) -> bool:
        """Tell whether it came to its end in an earlier call; raise a :class:`DemoError` if something else is there."""
        state = read_state(self.folder / STATE)
        if state and state['settings'] != self._settings:
            raise DemoError(
                f'{self.folder} holds a training of other settings: delete it, or choose another folder with --work-dir'
            )
        return bool(state.get('done'))

    def check_weights(self) -> None:
        """Raise a :class:`ModuleNotFoundError` that says what to install, if the weights to start from are not there."""
        backbone = self._read().model.backbone
        if backbone.type == 'kddense.EfficientNetLite' and backbone.get('weights', 'imagenet') == 'imagenet':
            packaged_weights(backbone.arch)

    @contextmanager
    def running(self, threads: int) -> Iterator[None]:
        """Train in the background, and end with the block, at the latest."""
        self._begun = time.monotonic() - read_state(self.folder / STATE).get('seconds', 0.0)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._logs_before = frozenset(logs_of(self.folder))
        self._write_state(done=False)
        command = self._command()
        (self.folder / COMMAND).write_text(f'{SCENES}={shlex.quote(os.environ[SCENES])} {shlex.join(command)}\n')
        with self._log.open('a') as output:
            environment = {'OMP_NUM_THREADS': str(threads), **os.environ}
            # In a session of its own, the terminal's Ctrl-C reaches it through this process alone, once.
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        try:
            yield
        finally:
            if self._is_interrupted:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(PATIENCE)
            self._process.terminate()
            self._process.wait()
            if not self._is_finished:
                self._write_state(done=False)

    def interrupt(self) -> None:
        """Ask it to end with a checkpoint; :meth:`running` waits for that."""
        assert self._process is not None
        self._is_interrupted = True
        self._process.send_signal(signal.SIGINT)

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
        """Say how far it is; of an earlier call only where this one goes on."""
        record, steps = last_record(self.folder, of_training=True, but=self._logs_before), self._steps
        if record is None:
            return f'{self.title}: {"going on" if self._logs_before else "starting"}'
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
        write_state(self.folder / STATE, dict(settings=self._settings, done=done, seconds=self.seconds))

    def _command(self) -> list[str]:
        options = ['--work-dir', str(self.folder), '--resume']
        command = [sys.executable, '-m', 'kddense', 'train', str(self.config), *options]
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


def read_state(file: Path) -> dict[str, Any]:
    """Read what :func:`write_state` wrote; empty if there is nothing that can be read."""
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError):
        return {}


def write_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write a file of JSON, as a whole or not at all."""
    write_whole(file, json.dumps(state, indent=2).encode())

"""The steps of the demo, one after another."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kddense.apps.street_scenes import StreetScenes
from kddense.report.report import write_report

from .tasks import TASKS
from .teller import Teller
from .training import SCENES, STATE, Training, read_state, write_state

# Two cores have minutes: little is in the way, and what shows hardly more than a speck is not counted.
SCENES_LIKE: dict[str, Any] = dict(difficulty='easy', smallest=100)
ROLES = {'teacher': 'teacher', 'plain': 'plain student', 'distilled': 'distilled student'}


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
        tell: Prints the progress.

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
        ModuleNotFoundError: If the package with the teacher's weights is not installed.
            OSError: If a folder cannot be written to.
        """
        os.environ[SCENES] = str(self.scenes)  # configs read it, here and in the processes that train
        teacher = self._training('teacher')
        if not teacher.is_done():
            teacher.check_weights()
        self._make_scenes()
        self.work_dir.mkdir(parents=True, exist_ok=True)
        # Networks as small as these gain little from a second thread, so two of them share two cores.
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
        scenes = StreetScenes(train, val, **SCENES_LIKE)
        self.tell.progress(f'[1/4] street scenes: {train + val} images, in {self.scenes}')
        scenes.write(self.scenes, progress=sys.stderr.isatty())
        self.tell.done(f'[1/4] {train + val} street scenes are in {self.scenes}')

    def _training(self, role: str, places: Mapping[str, str] | None = None) -> Training:
        return Training(
            title=ROLES[role],
            config=self.configs / getattr(TASKS[self.task], role),
            folder=self.work_dir / role,
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
            try:
                self._wait_for(step, waiting)
            except KeyboardInterrupt:
                self.tell.done(f'{step} interrupted: saving what was learnt; Ctrl-C once more ends at once')
                for training in waiting:
                    training.interrupt()
                raise

    def _wait_for(self, step: str, waiting: list[Training]) -> None:
        """Take out of the list what has come to its end, until it is empty."""
        while waiting:
            self.tell.progress(f'{step} {"; ".join(training.progress() for training in waiting)}')
            time.sleep(0.5)
            for training in [training for training in waiting if training.has_ended()]:
                waiting.remove(training)
                training.finish()
                self.tell.done(f'{step} {training.title} is trained, in {training.seconds / 60:.1f} minutes')

    def _report(self) -> list[str]:
        state = self.work_dir / STATE
        trainings = {role: read_state(self.work_dir / role / STATE) for role in ROLES}
        done = read_state(state)
        if done.get('trainings') == trainings and self.page.is_file():
            self.tell.done(f'[4/4] the report is there: {self.page}')
            return list(done['summary'])
        folders = {role: self.work_dir / role for role in ROLES}
        command = ['kddense', 'report', '--out', self.page]
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
        write_state(state, dict(trainings=trainings, summary=summary))
        return summary

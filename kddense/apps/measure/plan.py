"""What a table needs: its runs, where each lies, and what goes on from what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kddense.training.checkpoints import find_checkpoint

from .result import SAME_TIME

DONE = 'result.json'
FAILED = 'failed.txt'  # in the folder of a run whose last start failed: why
STUDENT = 'STUDENT'  # in a config, {{$STUDENT:path}}: the checkpoint that a continued run begins with


@dataclass(frozen=True)
class Plan:
    """What a table needs.

    Attributes:
        plain: The student's own config: the baseline, and what every checkpoint is tested with.
        configs: Configs that distil into that student.
        then: Configs that go on from a trained student, such as quantisation-aware training; theirs is ``$STUDENT``.
            All are tested with the first.
        then_from: The config whose students those are; one of the above.
        seeds: Seeds of every row.
        work_dir: Where runs go, ``<config>/seed_<seed>``.
        package: Whose scripts run, ``'mmdet'`` or ``'mmseg'``.
        options: ``key=value`` for every training.
        channels_last: Whether students are trained in the channels-last memory format.
        same_time_steps: How long the plain student trains in the row "plain, same time"; ``None`` for no such row.
        split: What checkpoints are tested on, ``'test'`` or ``'val'``, the plain config's validation data.
        variants: Of each image, where all runs share what the teachers say of them; ``None`` if each run asks its own.
    """

    plain: str
    configs: tuple[str, ...]
    seeds: tuple[int, ...]
    work_dir: Path
    package: str
    then: tuple[str, ...] = ()
    then_from: str = ''
    options: tuple[str, ...] = ()
    channels_last: bool = False
    same_time_steps: int | None = None
    split: str = 'test'
    variants: int | None = None

    def jobs(self) -> list[Job]:
        """Return all runs, seed by seed, so that what is cut off leaves whole pairs."""
        jobs = []
        for seed in self.seeds:
            jobs.append(Job(self.plain, 'plain', seed))
            jobs += [Job(config, 'distilled', seed) for config in self.configs]
            jobs += [Job(config, 'continued', seed) for config in self.then]
            if self.same_time_steps:
                jobs.append(Job(self.plain, SAME_TIME, seed))
        return jobs

    def folder(self, job: Job) -> Path:
        stem = Path(job.config).stem
        if job.role == SAME_TIME:
            stem = f'{stem}_same-time-{self.same_time_steps}'
        if job.role == 'continued':
            stem = f'{stem}_from_{Path(self.then_from).stem}'
        root = self.work_dir if self.split == 'test' else self.work_dir / self.split
        return root / stem / f'seed_{job.seed}'

    def beginning(self, job: Job) -> Path | None:
        """Return the checkpoint that a run goes on from; ``None`` if it begins as its config says.

        Raises:
            NoStudentError: If that student was not trained to its end.
        """
        if job.role != 'continued':
            return None
        folder = self.student_folder(job)
        checkpoint = find_checkpoint(folder) if (folder / DONE).exists() else None
        if checkpoint is None:
            raise NoStudentError(
                f'{job.config}, seed {job.seed}: {folder} holds no student of {self.then_from} that was trained to its '
                'end, so there is nothing to go on from'
            )
        return checkpoint

    def student_folder(self, job: Job) -> Path:
        """Return where the run lies that a continued one goes on from."""
        return self.folder(Job(self.then_from, 'plain', job.seed))


class NoStudentError(FileNotFoundError):
    """There is no trained student that a run could go on from."""


@dataclass(frozen=True)
class Job:
    """One run: a config, what it is in the table, a seed."""

    config: str
    role: str
    seed: int

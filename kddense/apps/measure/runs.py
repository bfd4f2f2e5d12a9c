"""Train and test each config with each seed through the stock scripts; what is done is not repeated."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

from mmengine.config import Config
from mmengine.utils import get_installed_path

from kddense.compat import load_checkpoint
from kddense.configs import find_config, read_config_file
from kddense.errors import ConfigError
from kddense.files import write_whole
from kddense.training.checkpoints import find_checkpoint
from kddense.training.runs import read_run
from kddense.training.settings import add_import, continue_bit_for_bit, setting_of, steps_of, stretched

from .options import parsed, read_with
from .outcome import newest_metrics, parameters_in, scores_in, steps_done
from .result import SAME_TIME, Result, read_result, this_machine, write_result
from .shared_teacher import share_teacher

DONE = 'result.json'
FAILED = 'failed.txt'  # in the folder of a run whose last start failed: why
BEGUN = 'settings.sha256'  # of what a run was begun with: with other settings it is neither resumed nor taken for done
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


def run(plan: Plan, job: Job) -> Result:
    """Train and test once, and leave ``result.json`` in the run's folder; a run that was cut off is resumed.

    One that fails leaves ``failed.txt``, until it is started again.

    Raises:
        subprocess.CalledProcessError: If a script failed.
        NoStudentError: If it goes on from a student that was not trained to its end.
        ConfigError: If the config, or one of its bases, was changed since the table's first look at it.
    """
    folder = plan.folder(job)
    if (folder / DONE).exists():
        return read_result(folder / DONE)
    (folder / FAILED).unlink(missing_ok=True)
    try:
        beginning = plan.beginning(job)
        with patch.dict(os.environ, {STUDENT: str(beginning)} if beginning else {}):
            result = _trained_and_tested(plan, job, folder)
    except (subprocess.CalledProcessError, NoStudentError) as error:
        write_whole(folder / FAILED, f'{error}\n'.encode())
        raise
    write_result(result, folder / DONE)
    return result


def _trained_and_tested(plan: Plan, job: Job, folder: Path) -> Result:
    if _read_digest(plan, _any_seed(job)) != _digest(plan, _any_seed(job)):
        raise ConfigError(
            f'{job.config}, or a base of it, was changed while the table was at work: call the same command again'
        )
    folder.mkdir(parents=True, exist_ok=True)
    config, trained = _config(plan, job)
    write_whole(folder / BEGUN, settings_digest(plan, job).encode())
    # With --resume and nothing to go on from, a config's load_from would be ignored.
    resume = ['--resume'] if find_checkpoint(folder) else []
    started = time.time() - (_logged_seconds(folder) if resume else 0.0)
    commands = [_call(plan.package, 'train.py', trained, '--work-dir', folder, *resume)]
    seconds = time.time() - started
    checkpoint = find_checkpoint(folder)
    if checkpoint is None:
        raise FileNotFoundError(f'{folder} holds no whole checkpoint, though its training came to its end')
    contents = load_checkpoint(checkpoint)
    tests, tested = _tested(plan, job, folder)
    commands.append(_call(plan.package, 'test.py', tested, checkpoint, '--work-dir', folder / 'test'))
    return Result(
        config=job.config,
        role=job.role,
        seed=job.seed,
        steps=steps_done(contents, steps_of(config)[1]),
        scores=scores_in(json.loads(newest_metrics(folder / 'test').read_text())),
        seconds=seconds,
        parameters=parameters_in(contents),
        setting={**setting_of(config), 'test': setting_of(tests)['test']},
        machine=this_machine(),
        commands=commands,
        begins_from=plan.then_from if job.role == 'continued' else '',
        images='images.npz' if (folder / 'images.npz').exists() else '',
    )


def _logged_seconds(folder: Path) -> float:
    """Return how long the steps of earlier starts took, as far as that was logged."""
    return 60 * (read_run(folder, folder.name).minutes or 0.0)


def _config(plan: Plan, job: Job) -> tuple[Config, str]:
    """Return what is trained, and the file of it in the run's folder, with all that the plan changes."""
    config = read_with(job.config, parsed(plan.options))
    config.merge_from_dict({'randomness.seed': job.seed})
    if job.role == SAME_TIME and plan.same_time_steps is not None:
        config = stretched(config, plan.same_time_steps)
    if plan.channels_last:
        use_channels_last(config)
    if plan.variants is not None:
        share_teacher(config, plan.variants, plan.work_dir / 'answers')
    continue_bit_for_bit(config)
    file = str(plan.folder(job) / 'trained.py')
    config.dump(file)
    return config, file


def note_settings(plan: Plan) -> None:
    """Note what all configs of a table are before the first run, and refuse to go on with runs that were begun with others.

    Raises:
        ConfigError: If a run was.
        FileNotFoundError: If there is no such config.
    """
    for job in plan.jobs():
        _digest(plan, _any_seed(job))
        if fault := other_settings(plan, job):
            raise ConfigError(fault)


def other_settings(plan: Plan, job: Job) -> str | None:
    """Return a sentence if a run was begun with other settings than its config and the options say now.

    A run of before this was noted is taken as it is.
    """
    file = plan.folder(job) / BEGUN
    if not file.exists() or file.read_text() == settings_digest(plan, job):
        return None
    return (
        f'{job.config}, seed {job.seed}: {file.parent} was trained with other settings than the config and the options have '
        'now; choose another --work-dir, or move the folder away'
    )


def settings_digest(plan: Plan, job: Job) -> str:
    """Return a digest of a run's config with all that is changed in it, but for its seed and its places.

    That of a run that goes on from a student is also of this student: trained anew, it is another beginning.
    """
    own = _digest(plan, _any_seed(job))
    if job.role != 'continued':
        return own
    student = plan.student_folder(job) / DONE
    return hashlib.sha256(own.encode() + (student.read_bytes() if student.exists() else b'')).hexdigest()


def _any_seed(job: Job) -> Job:
    return replace(job, seed=0)


def _read_digest(plan: Plan, job: Job) -> str:
    with patch.dict(os.environ, {STUDENT: STUDENT}):
        config = read_with(job.config, parsed(plan.options))
    text = json.dumps(config.to_dict(), sort_keys=True, default=str)
    others = [plan.same_time_steps if job.role == SAME_TIME else None, plan.channels_last, plan.variants]
    return hashlib.sha256(f'{text}{others}'.encode()).hexdigest()


_digest = cache(_read_digest)  # of the config as it is when the table first looks at it


def use_channels_last(config: Config) -> None:
    """Add the hook that brings the student into the channels-last memory format."""
    add_import(config)
    config.custom_hooks = [*(config.get('custom_hooks') or []), dict(type='kddense.ChannelsLastHook')]


def failed(plan: Plan) -> list[Job]:
    """Return the runs whose last start failed."""
    return [job for job in plan.jobs() if (plan.folder(job) / FAILED).exists()]


def done(plan: Plan) -> tuple[list[Result], list[str]]:
    """Return the results that are there, and a sentence for each run that failed, was cut off or is not readable."""
    results, faults = [], []
    for job in plan.jobs():
        file = plan.folder(job) / DONE
        fault = other_settings(plan, job) if file.parent.exists() else None
        if fault:
            faults.append(f'{fault}; it is left out')
        elif file.exists():
            try:
                results.append(read_result(file))
            except ValueError as error:
                faults.append(str(error))
        elif (file.parent / FAILED).exists():
            faults.append(
                f'{job.config}, seed {job.seed}: failed, and is left out; mend it and call the same command again'
            )
        elif file.parent.exists():
            faults.append(
                f'{job.config}, seed {job.seed}: {_how_far(file.parent)}; call the same command again to go on'
            )
    return results, faults


def _how_far(folder: Path) -> str:
    checkpoint = find_checkpoint(folder)
    if checkpoint is None:
        return 'the run was cut off before its first checkpoint'
    return f'the run was cut off after {checkpoint.stem.replace("_", " ")}, or was not tested'


def _call(package: str, script: str, *arguments: object) -> str:
    """Run a stock script; return the command, as one would type it."""
    path = Path(get_installed_path(package)) / '.mim' / 'tools' / script
    words = [str(argument) for argument in arguments]
    subprocess.run([sys.executable, path, *words], check=True)
    return ' '.join(['python', f'<{package}>/tools/{script}', *words])


def _tested(plan: Plan, job: Job, folder: Path) -> tuple[Config, str]:
    """Return what a checkpoint is tested with, and the file of it: the plain config itself, or one in the run's folder.

    What goes on from a trained student is tested with the first config that does, which has no teacher. A mean IoU is
    tested with each image's share kept.
    """
    file = find_config(plan.then[0] if job.role == 'continued' else plan.plain)
    config = read_config_file(file)
    if plan.split == 'val':
        config.test_dataloader, config.test_evaluator = config.val_dataloader, config.val_evaluator
    keeps = not isinstance(config.test_evaluator, list) and config.test_evaluator.get('type') == 'IoUMetric'
    if keeps:
        config.test_evaluator.update(type='kddense.ImageIoUMetric', file=str(folder / 'images.npz'))
        add_import(config)
    if not keeps and plan.split == 'test':
        return config, file
    file = str(folder / 'tested.py')
    config.dump(file)
    return config, file

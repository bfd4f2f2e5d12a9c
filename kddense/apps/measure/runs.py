"""Train and test each config with each seed through the stock scripts; what is done is not repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

from mmengine.config import Config
from mmengine.utils import get_installed_path

from kddense.compat import load_checkpoint
from kddense.configs import find_config, read_config_file
from kddense.files import write_whole
from kddense.training.checkpoints import find_checkpoint
from kddense.training.runs import read_run
from kddense.training.settings import add_import, continue_bit_for_bit, setting_of, steps_of, stretched

from .noted import note, other_settings
from .options import parsed, read_with
from .outcome import newest_metrics, parameters_in, scores_in, steps_done
from .plan import DONE, FAILED, STUDENT, Job, NoStudentError, Plan
from .result import SAME_TIME, Result, read_result, this_machine, write_result
from .shared_teacher import share_teacher


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
    folder.mkdir(parents=True, exist_ok=True)
    note(plan, job, folder)
    config, trained = _config(plan, job)
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

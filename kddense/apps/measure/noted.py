"""What a run was begun with, noted beside it: with other settings or files it is neither resumed nor taken for done."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

from kddense.errors import ConfigError
from kddense.files import write_whole
from kddense.training.inputs import inputs_in

from .options import parsed, read_with
from .plan import DONE, STUDENT, Job, Plan
from .result import SAME_TIME

BEGUN = 'settings.sha256'
INPUTS = 'inputs.json'  # the files that the config named, each with a digest of what was in it


def check_runs(plan: Plan) -> None:
    """Look at all configs of a table before its first run.

    Raises:
        ConfigError: If a run was begun with other settings or files.
        FileNotFoundError: If there is no such config.
    """
    for job in plan.jobs():
        _digest(plan, _any_seed(job))
        if fault := other_settings(plan, job):
            raise ConfigError(fault)


def note(plan: Plan, job: Job, folder: Path) -> None:
    """Note in a run's folder what it begins with.

    Raises:
        ConfigError: If the config, or one of its bases, is another than when the table first looked at it.
    """
    if _read_digest(plan, _any_seed(job)) != _digest(plan, _any_seed(job)):
        raise ConfigError(
            f'{job.config}, or a base of it, was changed while the table was at work: call the same command again'
        )
    write_whole(folder / BEGUN, settings_digest(plan, job).encode())
    write_whole(folder / INPUTS, (json.dumps(_inputs(plan, _any_seed(job)), indent=2) + '\n').encode())


def other_settings(plan: Plan, job: Job) -> str | None:
    """Return a sentence if a run was begun with other settings than its config and the options say now, or other files.

    A run of before this was noted is taken as it is, and a file that is gone is no other one.
    """
    folder = plan.folder(job)
    if (folder / BEGUN).exists() and (folder / BEGUN).read_text() != settings_digest(plan, job):
        other = 'other settings than the config and the options have now'
    elif (folder / INPUTS).exists() and (file := _changed(json.loads((folder / INPUTS).read_text()), plan, job)):
        other = f'another {file} than there is now'
    else:
        return None
    return (
        f'{job.config}, seed {job.seed}: {folder} was trained with {other}; choose another --work-dir, or move the '
        'folder away'
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


def _changed(before: Mapping[str, str], plan: Plan, job: Job) -> str | None:
    """Return the first file that holds something else than before."""
    now = _inputs(plan, _any_seed(job))
    return next((file for file, digest in before.items() if now.get(file, digest) != digest), None)


def _any_seed(job: Job) -> Job:
    return replace(job, seed=0)


def _read_digest(plan: Plan, job: Job) -> str:
    text = json.dumps(_read(plan, job), sort_keys=True, default=str)
    others = [plan.same_time_steps if job.role == SAME_TIME else None, plan.channels_last, plan.variants]
    return hashlib.sha256(f'{text}{others}'.encode()).hexdigest()


_digest = cache(_read_digest)  # of the config as it is when the table first looks at it


@cache
def _inputs(plan: Plan, job: Job) -> dict[str, str]:
    """Return the files that a config names, a teacher's checkpoint or annotations, each with a digest of what is in it."""
    return dict(inputs_in(_read(plan, job)))


def _read(plan: Plan, job: Job) -> dict[str, object]:
    with patch.dict(os.environ, {STUDENT: STUDENT}):
        return dict(read_with(job.config, parsed(plan.options)).to_dict())

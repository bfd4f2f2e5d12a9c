"""A toy student and teacher of each family, as files, and the app called on them in this process."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from kddense.apps.distill import Distillation

from ...helpers.toy_task import ToyTask

_numbers = itertools.count()


@pytest.fixture
def files(tmp_path):
    """Write the student of a task as ``student.py``: ``files(task)``, with changes as of :meth:`ToyTask.plain`."""

    def write(task: ToyTask, **changes: Any) -> Path:
        task.build(task.plain().model)  # its package is registered
        folder = tmp_path / f'{task.name}_{next(_numbers)}'
        folder.mkdir()
        task.plain(**changes).dump(folder / 'student.py')
        return folder / 'student.py'

    return write


@pytest.fixture
def distillation(files, tmp_path):
    """Make a :class:`Distillation` of a task; what it says is in ``said``."""

    def make(task: ToyTask, student: Any = None, **arguments: Any) -> Distillation:
        said: list[str] = []
        arguments = {**task.teacher, 'work_dir': tmp_path / f'run_{next(_numbers)}', **arguments}
        teacher = arguments.pop('config')
        made = Distillation(str(student or files(task)), teacher, device='cpu', say=said.append, **arguments)
        made.said = said  # type: ignore[attr-defined]
        return made

    return make

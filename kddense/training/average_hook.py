"""Moves teachers that are averages of the student, and keeps them in the checkpoints."""

from __future__ import annotations

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu

from kddense.registry import HOOKS
from kddense.teachers import AverageTeacher

from .added_hook import AddedHook

KEY = 'average_teachers'


@HOOKS.register_module()
class AverageTeacherHook(AddedHook):
    """After each iteration lets every :class:`kddense.AverageTeacher` follow the student; saved and resumed.

    In a checkpoint they stand under ``'average_teachers'``, where stock tools do not look.

    Example:
        >>> default_hooks = dict(average=dict(type='kddense.AverageTeacherHook'))
    """

    works_sharded = False
    priority = 'HIGH'  # before the average is saved

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None

    def before_train(self, runner: Runner) -> None:
        """Begin with the student, or where the checkpoint left off.

        Raises:
            ValueError: If there is no such teacher, it is of another architecture, or the checkpoint lacks it.
        """
        averages = averages_of(runner.model)
        if not averages:
            raise ValueError('the AverageTeacherHook finds no teacher of the type kddense.AverageTeacher')
        student = _inner(runner.model).student
        for name, teacher in averages.items():
            teacher.check_is(student)
            if self._resumed is None:
                teacher.begin(student)
            elif name not in self._resumed:
                raise ValueError(f'the checkpoint that is resumed holds no average for the teacher {name}')
            else:
                teacher.go_on(self._resumed[name])

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        for teacher in averages_of(runner.model).values():
            teacher.follow(_inner(runner.model).student, runner.iter + 1)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        averages = averages_of(runner.model)
        checkpoint[KEY] = {name: weights_to_cpu(one.model.state_dict()) for name, one in averages.items()}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if runner._resume:
            self._resumed = checkpoint.get(KEY, {})


def _inner(model: Any) -> Any:
    return model.module if is_model_wrapper(model) else model


def averages_of(model: Any) -> dict[str, AverageTeacher]:
    """Return the teachers of a distiller that are averages of its student, by name; of a wrapped one too."""
    teachers = getattr(_inner(model), 'teachers', {})
    return {name: one for name, one in teachers.items() if isinstance(one, AverageTeacher)}

"""From configs to teachers and objectives, and what only a run can tell about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from torch import nn

from kddense.configs import config_from_text
from kddense.datasets import dataset_names
from kddense.errors import ConfigError, within
from kddense.exchange import ImageFormat
from kddense.objectives import Objective
from kddense.registry import MODELS
from kddense.teachers import Teacher, build_teacher, is_one_teacher
from kddense.views import ModelView


def build_teachers(config: Mapping[str, Any] | None, student: ImageFormat) -> dict[str, Teacher]:
    """Build all teachers.

    Args:
        config: One teacher, or several by name; see :class:`kddense.Distiller`.
        student: The format of the student's images.

    Raises:
        ValueError: If one does not fit; the message begins with the config key.
    """
    config = config or {}
    configs = (
        {'teacher': config} if is_one_teacher(config) else {f'teacher.{name}': one for name, one in config.items()}
    )
    built = {where: build_teacher(one, where) for where, one in configs.items()}
    for teacher in built.values():
        teacher.check_images(student)
    return {where.removeprefix('teacher.'): teacher for where, teacher in built.items()}


def build_objectives(
    configs: Mapping[str, Mapping[str, Any]] | None, student: ModelView, teachers: Mapping[str, Teacher]
) -> dict[str, Objective]:
    """Build the objectives that are on, and attach them to student and teachers.

    Raises:
        ValueError: If one does not fit; the message begins with the config key.
    """
    configs = configs or {}
    if not configs:
        print_log('objectives is empty: the student trains as if there were no teacher', logger='current', level=30)
    _check_names(configs)
    built = {name: _build_objective(name, one, student, teachers) for name, one in configs.items()}
    return {name: objective for name, objective in built.items() if objective is not None}


def _build_objective(
    name: str, config: Mapping[str, Any], student: ModelView, teachers: Mapping[str, Teacher]
) -> Objective | None:
    where = f'objectives.{name}'
    with within(where, config):
        if 'type' not in config:
            raise ConfigError(f' must be a dict with a `type`, got {config!r}')
        objective = MODELS.build(dict(config))
        if not isinstance(objective, Objective):
            raise ConfigError(f': {type(objective).__name__} is not an Objective')
        if objective.is_off:
            print_log(f'{where} is off: its weight is 0', logger='current')
            return None
        chosen = objective.choose_teachers(list(teachers))
        objective.attach(student, {one: teachers[one].view for one in chosen})
        return objective


def check_run(
    objectives: Mapping[str, Objective],
    teachers: Mapping[str, Teacher],
    classes: Sequence[str] | None,
    config: str | None,
    end: int | None = None,
) -> None:
    """Check, before the first step of a run, what only the run knows: the dataset and the optimisers.

    Args:
        objectives: By name.
        teachers: By name.
        classes: Names of the classes of the run's dataset, if they are known.
        config: The text of the run's config, if there is one.
        end: The number of all iterations, if it is known.

    Raises:
        ValueError: If something does not fit; the message begins with the config key.
    """
    names = _dataset_names(config) if any(teacher.datasets for teacher in teachers.values()) else []
    for teacher in teachers.values():
        teacher.check_datasets(names)
        teacher.check_ready()
    for name, objective in objectives.items():
        if objective.trains_adversary and not objective.has_optimizer:
            raise ValueError(
                f'objectives.{name} trains a discriminator, which needs an optimiser of its own: add optim_wrapper = '
                f"dict(constructor='kddense.JointOptimWrapperConstructor', objectives=dict({name}=dict(optimizer=dict("
                "type='Adam', lr=4e-4, betas=(0.9, 0.99)))))"
            )
        chosen = [teachers[one] for one in objective.taught_by]
        for teacher in chosen if objective.compares_classes else ():
            teacher.check_classes(classes, f'objectives.{name}')
        with within(f'objectives.{name}'):
            if end is not None:
                objective.schedule.check_length(end)
            objective.check_run(config, chosen[0].checkpoint if chosen else None)


def _dataset_names(config: str | None) -> list[str]:
    """Return the names of the data sets whose images a run trains on."""
    whole = config_from_text(config) if config else {}
    return list(dataset_names([whole.get(key) for key in ('train_dataloader', 'custom_hooks', 'default_hooks')]))


def _check_names(configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise a ConfigError for a name that no module can have, and for an objective that is there twice."""
    for name, config in configs.items():
        try:
            nn.ModuleDict({name: nn.Identity()})
        except KeyError as error:
            raise ConfigError(f'is no name for an objective: {error.args[0]}', f"objectives['{name}']") from error
        for other, own in configs.items():
            if other == name:
                break
            if own == config and config.get('type') is not None:
                raise ConfigError(
                    f"is objectives.{other} once more, with the same options: remove it, or raise the other's weight",
                    f'objectives.{name}',
                )

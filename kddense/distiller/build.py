"""From configs to teachers and objectives, and what only a run can tell about them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from torch import nn

from kddense.exchange import ImageFormat
from kddense.objectives import Objective
from kddense.registry import MODELS, TEACHERS
from kddense.taps import nearest
from kddense.teachers import FrozenTeacher, Teacher
from kddense.views import ModelView

NEEDED = {'config': "the teacher's config", 'checkpoint': "the path of the trained teacher's weights"}


def build_teachers(config: Mapping[str, Any] | None, student: ImageFormat) -> dict[str, Teacher]:
    """Build all teachers.

    Args:
        config: One teacher, or several by name; see :class:`kddense.Distiller`.
        student: The format of the student's images.

    Raises:
        ValueError: If one does not fit; the message begins with the config key.
    """
    config = _by_name('teacher', config)
    if {'type', *arguments_of(FrozenTeacher)} & config.keys():
        configs = {'teacher': config}
        return {name: _build_teacher(name, one, student) for name, one in configs.items()}
    return {name: _build_teacher(f'teacher.{name}', one, student) for name, one in config.items()}


def _build_teacher(where: str, config: Any, student: ImageFormat) -> Teacher:
    if not isinstance(config, Mapping):
        raise ValueError(f"{where} must be a dict with the keys 'config' and 'checkpoint', got {config!r}")
    arguments = dict(config)
    kind = arguments.pop('type', None)
    teacher = FrozenTeacher if kind is None else _teacher_type(kind, where)
    for key, what in NEEDED.items() if teacher is FrozenTeacher else ():
        if key not in arguments:
            raise ValueError(f"{where} needs the key '{key}': {what}")
    known = arguments_of(teacher)
    for key in arguments.keys() - known:
        raise ValueError(f"{where} has no key '{key}', only {', '.join(sorted(known))}")
    try:
        built = teacher(**arguments, name=where)
    except TypeError as error:
        raise ValueError(f'{where}: {error}') from error
    built.check_images(student)
    return built


def _teacher_type(kind: Any, where: str) -> type[Teacher]:
    found = TEACHERS.get(kind) if isinstance(kind, str) else kind
    if found is None:
        known = [f'kddense.{name}' for name in TEACHERS.module_dict]
        raise ValueError(f"{where}.type: there is no teacher '{kind}'{nearest(str(kind), known)}")
    if not (isinstance(found, type) and issubclass(found, Teacher)):
        raise ValueError(f'{where}.type: {kind} is no Teacher')
    return found


def arguments_of(kind: type) -> set[str]:
    """Return the names of the arguments that a class takes, with those that it passes on to the classes it derives from."""
    names: set[str] = set()
    for base in kind.__mro__:
        if '__init__' not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        names |= {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        if not any(one.kind == one.VAR_KEYWORD for one in parameters):
            break
    return names - {'self', 'name'}


def build_objectives(
    configs: Mapping[str, Mapping[str, Any]] | None, student: ModelView, teachers: Mapping[str, Teacher]
) -> dict[str, Objective]:
    """Build the objectives that are on, and attach them to student and teachers.

    Raises:
        ValueError: If one does not fit; the message begins with the config key.
    """
    built = {
        name: _build_objective(name, one, student, teachers) for name, one in _by_name('objectives', configs).items()
    }
    return {name: objective for name, objective in built.items() if objective is not None}


def _build_objective(
    name: str, config: Mapping[str, Any], student: ModelView, teachers: Mapping[str, Teacher]
) -> Objective | None:
    where = f'objectives.{name}'
    try:
        if not isinstance(config, Mapping) or 'type' not in config:
            raise ValueError(f'must be a dict with a `type`, got {config!r}')
        objective = MODELS.build(dict(config))
        if not isinstance(objective, Objective):
            raise ValueError(f'{type(objective).__name__} is not an Objective')
        if objective.is_off:
            print_log(f'{where} is off: its weight is 0', logger='current')
            return None
        chosen = objective.choose_teachers(list(teachers))
        objective.attach(student, {one: teachers[one].view for one in chosen})
        nn.ModuleDict({name: objective})  # refuses a name that no module can have
        return objective
    except KeyError as error:  # an unknown type, or a name that no module can have
        reason, *more = str(error.args[0] if error.args else error).split('. Please check')
        known = [f'kddense.{key}' for key in MODELS.module_dict]
        close = difflib.get_close_matches(str(config['type']), known, n=1) if more else []
        raise ValueError(f'{where}: {reason}{f"; did you mean {close[0]!r}?" if close else ""}') from error
    except (ValueError, TypeError) as error:
        raise type(error)(f'{where}: {error.args[0] if error.args else error}') from error


def check_run(
    objectives: Mapping[str, Objective],
    teachers: Mapping[str, Teacher],
    classes: Sequence[str] | None,
    config: str | None,
) -> None:
    """Check, before the first step of a run, what only the run knows: the dataset and the optimisers.

    Args:
        objectives: By name.
        teachers: By name.
        classes: Names of the classes of the run's dataset, if they are known.
        config: The text of the run's config, if there is one.

    Raises:
        ValueError: If something does not fit; the message begins with the config key.
    """
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
        try:
            objective.check_run(config, chosen[0].checkpoint if chosen else None)
        except ValueError as error:
            raise ValueError(f'objectives.{name}: {error}') from error


def _by_name(where: str, configs: Any) -> Mapping[str, Any]:
    if not isinstance(configs or {}, Mapping):
        raise ValueError(f'{where} must be a dict of configs by name, got a {type(configs).__name__}')
    return configs or {}

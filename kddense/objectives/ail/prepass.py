"""A pass over the training set before the training: how wrong the teacher is, for attentive imitation."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.utils import track_iter_progress

from kddense.objectives import MeasuresTeacher
from kddense.objectives.ail.teacher_error import RUNNING, TeacherErrors, describe_checkpoint, describe_dataset
from kddense.registry import MODELS


def measure_teacher_errors(config: Config, name: str | None = None, device: str = 'cpu') -> TeacherErrors:
    """Ask the teacher about every training image once, as the training will, augmentations included.

    The student does not learn and its weights hardly matter: it only tells which boxes and pixels have a ground truth.

    Args:
        config: A training config whose model is a :class:`kddense.Distiller`.
        name: The objective that needs the errors; that which does, if it is one.
        device: Where to run.

    Returns:
        The errors, to be written by :func:`kddense.objectives.ail.teacher_error.write_teacher_errors`.

    Raises:
        ValueError: If no objective needs errors, or several do and ``name`` is none of them.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    model = copy.deepcopy(config.model)
    name = _needing_errors(model.get('objectives') or {}, name)
    model.objectives = {name: dict(model.objectives[name], error_range=RUNNING, percentile=None, weight=1.0)}
    distiller: Any = MODELS.build(model).to(device).eval()
    objective = distiller.objectives[name]
    errors: list[torch.Tensor] = []
    objective.register_forward_pre_hook(lambda _, answers: errors.append(objective.teacher_errors(*answers).cpu()))
    loader = _once_over(config)
    with torch.no_grad():
        for batch in track_iter_progress((loader, len(loader))):
            distiller(**distiller.data_preprocessor(batch, True), mode='loss')
    teacher = distiller.teachers[objective.taught_by[0]]
    return TeacherErrors.of(
        torch.cat(errors),
        describe_dataset(config.train_dataloader.dataset),
        describe_checkpoint(teacher.checkpoint),
        objective.measure,
    )


def _needing_errors(objectives: dict[str, Any], name: str | None) -> str:
    """Return the objective to measure for: any one will do if all of them mean the same by an error."""
    measures = {key: _measure_of(one['type']) for key, one in objectives.items() if _measure_of(one['type'])}
    if not measures:
        raise ValueError('no objective of this config needs the errors of a teacher; those of attentive imitation do')
    if name is None and len(set(measures.values())) == 1:
        return next(iter(measures))
    if name not in measures:
        raise ValueError(f'objective must be one of {", ".join(measures)}, got {name!r}')
    return name


def _measure_of(kind: Any) -> str | None:
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    return found.measure if isinstance(found, type) and issubclass(found, MeasuresTeacher) else None


def _once_over(config: Config) -> Any:
    loader = copy.deepcopy(config.train_dataloader)
    loader.sampler = dict(type='DefaultSampler', shuffle=False)
    return Runner.build_dataloader(loader, seed=0)

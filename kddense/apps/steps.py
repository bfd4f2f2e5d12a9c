"""Training steps of a distilling config on made-up images, for what times them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from torch import Tensor

from kddense.configs import is_distiller
from kddense.distiller import Distiller
from kddense.distiller.build import build_teachers
from kddense.distiller.written import objectives_of
from kddense.errors import ConfigError
from kddense.exchange import Answer, ImageFormat, Question
from kddense.pretrained import uncached, untrained
from kddense.registry import MODELS, TEACHERS
from kddense.taps import Taps
from kddense.teachers import AverageTeacher, FrozenTeacher, ModelTeacher, is_one_teacher

MEASURED = ('every', 'on')  # of a weight that sets itself: when, and by which features


def check_config(config: Mapping[str, Any], name: str, alone: bool = True) -> None:
    """Check that steps of a config that distils can be timed.

    Args:
        config: A training config.
        name: What ``--config`` calls it.
        alone: Whether its teacher is to be timed alone too.

    Raises:
        ConfigError: If it distils nothing, has no objective or no teacher, or one that cannot be timed so.
    """
    if 'model' not in config or not is_distiller(config['model']):
        raise ConfigError(f"--config '{name}' distils nothing: its model is no kddense.Distiller")
    model = config['model']
    teacher = model.get('teacher')
    if not teacher or not model.get('objectives'):
        raise ConfigError(
            ': none is there, so a step asks no teacher', f'model.{"objectives" if teacher else "teacher"}'
        )
    if not alone:
        return
    if not is_one_teacher(teacher):
        raise ConfigError(f': one teacher can be timed, not several ({", ".join(teacher)}): keep one', 'model.teacher')
    kind = TEACHERS.get(str(uncached(teacher).get('type', FrozenTeacher.__name__)))
    if kind is not None and (issubclass(kind, AverageTeacher) or not issubclass(kind, ModelTeacher)):
        raise ConfigError(
            f': only a trained teacher of one model can be timed, not a {kind.__name__}', 'model.teacher.type'
        )


def build(
    model: dict[str, Any],
    device: str,
    folder: Path | None = None,
    compiled: bool | Mapping[str, Any] = False,
    side_stream: bool = False,
) -> Distiller:
    """Build a distiller with random weights.

    Args:
        model: Its config.
        device: Where to.
        folder: Where its one teacher's answers are kept; it is asked each time without one.
        compiled: Whether student and teacher are; options of ``torch.compile``.
        side_stream: See :class:`kddense.Distiller`.
    """
    model = copy.deepcopy(model)
    model['teacher'] = untrained(model['teacher'])
    model['objectives'] = {name: _at_full_weight(one) for name, one in objectives_of(model['objectives']).items()}
    if compiled:
        model['compile'] = model['teacher']['compile'] = compiled
    if side_stream:
        model['side_stream'] = True
    if folder is not None:
        model['teacher'] = dict(type='kddense.CachedTeacher', folder=str(folder), check=0, teacher=model['teacher'])
    return revert_sync_batchnorm(MODELS.build(model)).to(device).train()


def _at_full_weight(objective: Mapping[str, Any]) -> dict[str, Any]:
    """Return an objective's config without its schedule, which may begin with 0 or count in shares of a training."""
    weight = objective.get('weight')
    if not isinstance(weight, Mapping) or 'value' not in weight:
        return dict(objective)
    sets_itself = isinstance(weight['value'], str)
    kept = {key: weight[key] for key in MEASURED if key in weight} if sets_itself else {}
    return {**objective, 'weight': {'value': weight['value'], **kept}}


def reference_teacher(model: dict[str, Any], device: str, student: ImageFormat) -> ModelTeacher:
    """Return the teacher in float32, in PyTorch's usual memory format.

    Raises:
        ValueError: If it is no single model.
    """
    config = {**untrained(model['teacher']), 'precision': 'fp32', 'channels_last': False}
    (teacher,) = build_teachers(config, student).values()
    if not isinstance(teacher, ModelTeacher):
        raise ValueError(f'only a teacher of one model can be timed alone, not a {type(teacher).__name__}')
    return teacher.to(device)


def one_exchange(distiller: Distiller, batch: dict[str, Any]) -> tuple[Answer, Answer, Question]:
    """Run one step and return what passes between the models: seen, taught, and the question."""
    (teacher,) = distiller.teachers.values()
    objective = next(iter(distiller.objectives.values()))
    with Taps(teacher, ['answer()']) as asked, Taps(objective, ['forward()']) as heard:
        distiller(**batch, mode='loss')
    exchange = heard['forward()'].arguments
    return exchange['seen'], exchange['taught'], asked['answer()'].arguments['question']


def optimizers_of(distiller: Distiller) -> list[torch.optim.Optimizer]:
    """Return the student's optimiser, and one for each objective that trains an adversary."""
    adversaries = [
        objective for objective in distiller.objectives.values() if getattr(objective, 'trains_adversary', False)
    ]
    theirs = {id(parameter) for objective in adversaries for parameter in objective.parameters()}
    rest = [parameter for parameter in distiller.parameters() if id(parameter) not in theirs]
    return [
        torch.optim.SGD(rest, lr=1e-4, momentum=0.9),
        *(torch.optim.Adam(objective.parameters(), lr=1e-4) for objective in adversaries),
    ]


def step(model: Any, batch: dict[str, Any], optimizers: list[torch.optim.Optimizer], low: bool = False) -> None:
    """Take one training step.

    Args:
        model: What trains.
        batch: Inputs and data samples.
        optimizers: Its optimisers.
        low: Whether the forward pass runs under bfloat16 autocast, as with ``--amp``.
    """
    for optimizer in optimizers:
        optimizer.zero_grad()
    with torch.autocast(batch['inputs'].device.type, torch.bfloat16, enabled=low):
        losses = model(**batch, mode='loss')
        loss, _ = model.parse_losses(losses)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


@torch.no_grad()
def plain_forward(teacher: ModelTeacher, question: Question, images: Tensor) -> None:
    """Run the parts of a teacher that a question is about."""
    teacher.view.run(question, images)

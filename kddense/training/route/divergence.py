"""How far a student is from checkpoints of a teacher."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from kddense.objectives.shares import nothing_measured
from kddense.random_state import fixed_random_state
from kddense.teachers import Teacher
from kddense.views import in_eval_mode


def divergences(
    runner: Runner, name: str, teacher: Teacher, checkpoints: Sequence[str], batches: int
) -> Iterator[float]:
    """Yield what the objectives say of the student and each checkpoint: their weighted losses, without what they learn.

    The same batches each time, of the run's own training images; nothing in student or objectives changes, no random number
    is drawn, and all processes get the mean.

    Args:
        runner: Of the training.
        name: The teacher's name.
        teacher: Is left with the weights of the checkpoint that was asked for last.
        checkpoints: Of the teacher.
        batches: How many.
    """
    model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
    data = _batches_of(runner, batches)
    for checkpoint in checkpoints:
        teacher.load(checkpoint)
        before = copy.deepcopy(model.objectives.state_dict())
        with (
            fixed_random_state(),
            in_eval_mode(model.student),
            model.student_view.as_in_training(),
            nothing_measured(model.objectives),
        ):
            values = [_divergence(model, name, batch) for batch in data]
        model.objectives.load_state_dict(before)
        mean = torch.stack(values).mean().detach().double()
        all_reduce(mean, op='mean')
        yield float(mean)


def _divergence(model: Any, name: str, batch: Any) -> torch.Tensor:
    losses = model(**model.data_preprocessor(copy.deepcopy(batch), True), mode='loss')
    found = []
    for key, value in losses.items():
        owner, _, last = key.removeprefix('distill.').partition('.')
        objective = model.named_objectives.get(owner) if key.startswith('distill.') else None
        if (
            objective is not None
            and name in objective.taught_by
            and 'loss' in last
            and last not in objective.own_losses
        ):
            found.append(value.detach())
    if not found:
        raise ValueError(
            f"route: no objective learns from the teacher '{name}' now, so nothing says how far the student is"
        )
    return torch.stack(found).sum()


def _batches_of(runner: Runner, count: int) -> list[Any]:
    config = copy.deepcopy(runner.cfg.train_dataloader)
    config.update(num_workers=0, persistent_workers=False)
    config.pop('prefetch_factor', None)
    with fixed_random_state():
        loader = iter(runner.build_dataloader(config, seed=0))
        found = []
        for _ in range(count):
            batch = next(loader, None)
            if batch is None:
                break
            found.append(batch)
    return found

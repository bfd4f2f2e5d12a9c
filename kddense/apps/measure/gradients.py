"""How large each distillation term's gradient is beside the task's, and whether the two pull the same way.

    kddense gradients configs/skd/skd_lite2_r18-w16_fpn_camvid.py --student work_dirs/…/iter_600.pth

takes training batches, and prints for each objective the norm of its gradient divided by that of the student's own losses,
and the cosine between them, both on the layers that all terms share (``backbone`` and ``neck``). A ratio far above 1 means
that the student no longer learns the task; a cosine below 0 that the two disagree.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn

from kddense.apps.command_line import (
    ConfigOptions,
    change_config,
    check_json,
    count,
    in_one_sentence,
    new_parser,
    write_json,
)
from kddense.configs import find_config, read_config_file

from .begun import begin, endless, take_over, with_added_images

SHARED = ('backbone.', 'neck.')


def gradient_shares(config: Config, student: str | None = None, batches: int = 4) -> dict[str, dict[str, float]]:
    """Compare gradients on training batches.

    Args:
        config: A training config whose model is a :class:`kddense.Distiller`.
        student: A checkpoint of the student; without it, the student is as its config initialises it.
        batches: How many to average over.

    Returns:
        For each objective ``ratio`` and ``cosine`` against the student's own losses, and its ``loss``; means over batches.
        A ratio of 0 is that of no gradient, whose cosine says nothing: an objective that begins later, say.
        The own losses stand under ``'task'``, with the norm of their gradient.

    Raises:
        ValueError: If the model is no distiller.
    """
    with ready_to_step(config, student) as (model, loader):
        found = [shares_of(model, next(loader)) for _ in range(batches)]
    return {
        name: {key: statistics.mean(one[name][key] for one in found) for key in found[0][name]} for name in found[0]
    }


@contextmanager
def ready_to_step(config: Config, student: str | None = None) -> Iterator[tuple[Any, Iterator[Any]]]:
    """Context manager: a distiller in training mode, and training batches without end, with the images that hooks add.

    Args:
        config: A training config whose model is a :class:`kddense.Distiller`.
        student: A checkpoint of the student; without it, the student is as its config initialises it.

    Raises:
        ValueError: If the model is no distiller, or the checkpoint is of another student.
    """
    if not distils(config):
        raise ValueError('model.objectives is missing: gradients are compared in a config that distils')
    with tempfile.TemporaryDirectory() as folder:
        config = copy.deepcopy(config)
        config.work_dir = folder
        config.experiment_name = Path(folder).name
        config.visualizer = None  # configs name theirs alike, and mmengine keeps the first of a name, with its folder
        runner = Runner.from_cfg(config)
        model = runner.model.train()
        loader = runner.build_dataloader(config.train_dataloader)
        begin(runner, loader)
        if runner.optim_wrapper is not None:
            runner.build_optim_wrapper(runner.optim_wrapper)  # which objectives with a discriminator ask for
        take_over(model, student)
        yield model, with_added_images(runner, endless(loader))


def distils(config: Config) -> bool:
    """Tell whether a config has objectives, whose gradients can be compared."""
    return 'objectives' in (config.get('model') or {})


def shares_of(model: Any, batch: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Compare the gradients of one batch; see :func:`gradient_shares`."""
    data = model.data_preprocessor(batch, True)
    losses = model(**data, mode='loss')
    shared = [parameter for name, parameter in model.student.named_parameters() if _is_shared(name, parameter)]
    groups = grouped(losses, model.objectives)
    gradients = {name: _gradient(total, shared) for name, total in groups.items()}
    task = gradients.pop('task')
    found = {'task': {'loss': groups['task'].item(), 'norm': task.norm().item()}}
    for name, gradient in gradients.items():
        cosine = torch.cosine_similarity(gradient, task, dim=0).item()
        ratio = (gradient.norm() / task.norm()).item()
        found[name] = {'loss': groups[name].item(), 'ratio': ratio, 'cosine': cosine}
    return found


def grouped(losses: Mapping[str, Any], objectives: Any) -> dict[str, Tensor]:
    """Sum the losses of each objective, and of the task; what an objective learns itself is left out.

    Args:
        losses: What the distiller returned.
        objectives: By name, as a mapping or a ``ModuleDict``.
    """
    groups: dict[str, Tensor] = {}
    for key, value in losses.items():
        name, last = (key.split('.')[1], key.split('.')[-1]) if key.startswith('distill.') else ('task', key)
        if 'loss' not in last or (name != 'task' and last in objectives[name].own_losses):
            continue
        for part in value if isinstance(value, (list, tuple)) else [value]:
            groups[name] = groups.get(name, torch.zeros(())) + part.mean()
    return groups


def _is_shared(name: str, parameter: nn.Parameter) -> bool:
    return name.startswith(SHARED) and parameter.requires_grad


def _gradient(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    if not loss.requires_grad:  # of an objective that is off
        return torch.cat([torch.zeros_like(parameter).flatten() for parameter in parameters])
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat([_flat(one, parameter) for one, parameter in zip(found, parameters, strict=True)])


def _flat(gradient: Tensor | None, parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter).flatten() if gradient is None else gradient.flatten()


@in_one_sentence()
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the gradients' shares, or write them as JSON."""
    parser = new_parser(__doc__)
    parser.add_argument('config', help='a config that distils')
    parser.add_argument('--student', help='a checkpoint of the student; as it is initialised without one')
    parser.add_argument('--batches', type=count, default=4)
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='changes to the config')
    args = parser.parse_args(arguments)
    check_json(args.json)
    config = read_config_file(find_config(args.config))
    change_config(config, args.cfg_options)
    shares = gradient_shares(config, args.student, args.batches)
    task = shares['task']
    print(f'task: loss {task["loss"]:.3f}, norm of the gradient {task["norm"]:.3f}')
    for name, share in shares.items():
        if name != 'task' and share['ratio'] == 0:
            print(f'{name}: loss {share["loss"]:.3f}, no gradient at the beginning of the run')
        elif name != 'task':
            print(f'{name}: loss {share["loss"]:.3f}, {share["ratio"]:.2f} of the task, cosine {share["cosine"]:+.2f}')
    taken = {'config': args.config, 'options': args.cfg_options, 'student': args.student, 'batches': args.batches}
    write_json(args.json, {**taken, **shares})
    return 0

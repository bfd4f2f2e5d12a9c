"""Take a training step again whose losses were NaN or infinite, with the weights of a checkpoint.

kddense replay work_dirs/run/20261126_101112/nonfinite.pth --config my_detector.py --checkpoint work_dirs/run/epoch_3.pth
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from kddense.apps.command_line import in_one_sentence, new_parser
from kddense.compat import load_checkpoint
from kddense.configs import find_config, read_config_file
from kddense.distiller.kept_step import Kept, read_step
from kddense.random_state import set_random_state
from kddense.registry import MODELS
from kddense.training.added_hook import student_of
from kddense.training.quantised import compute_as_trained


@in_one_sentence()
def main(argv: Sequence[str] | None = None) -> None:
    """Take the step again, and print each loss as it was and as it is now.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parse_args(argv)
    step = read_step(args.file)
    losses = replay(step, read_config_file(find_config(args.config)), args.checkpoint, args.device)
    print('\n'.join(told(step, losses)))


def replay(step: Kept, config: Config, checkpoint: str, device: str = 'cpu') -> dict[str, float]:
    """Return the losses of a step with the weights of a checkpoint, the student's own included.

    Args:
        step: The step.
        config: The config of its run.
        checkpoint: A checkpoint of its run, such as the last before the step.
        device: Where to compute.

    Raises:
        ValueError: If the batch was not kept, or the checkpoint does not fit the config.
    """
    if step.batch is None:
        raise ValueError('the batch of this step was too large to be kept, so it cannot be taken again')
    init_default_scope(config.get('default_scope', 'mmengine'))
    model: Any = MODELS.build(config.model)
    try:
        contents = load_checkpoint(checkpoint)
        model.load_state_dict(contents['state_dict'])
        compute_as_trained(student_of(model), config, contents)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f'{checkpoint} does not fit the config: {error}') from error
    build_optim_wrapper(model, config.optim_wrapper)  # which objectives with a discriminator ask for
    told = dict(iter=step.iteration, max_iters=step.max_iters, seed=step.seed)
    MessageHub.get_instance('replay').update_info_dict({key: one for key, one in told.items() if one is not None})
    model = model.to(device).train()
    if step.random_state is not None:
        set_random_state(step.random_state)
    data = model.data_preprocessor(step.batch, True)
    try:
        _, losses = model.parse_losses(model(**data, mode='loss'))
        return {name: float(value) for name, value in losses.items() if name != 'loss'}
    except FloatingPointError:
        return dict(model.finite_check.last)


def told(step: Kept, losses: Mapping[str, float]) -> list[str]:
    """Return lines that tell of a step that was taken again."""
    width = max(map(len, losses), default=0)
    lines = [f'iteration {step.iteration}, seed {step.seed}', f'{"loss":{width}}  {"then":>12}  {"now":>12}']
    lines += [
        f'{name:{width}}  {step.losses.get(name, math.nan):12.5g}  {value:12.5g}' for name, value in losses.items()
    ]
    if all(map(math.isfinite, losses.values())):
        return [*lines, 'finite with these weights: the weights had gone wrong by then, rather than the batch']
    return [*lines, 'not finite with these weights either: look at this batch']


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('file', help='nonfinite.pth, which the error message named')
    parser.add_argument('--config', required=True, help='the config of the run')
    parser.add_argument('--checkpoint', required=True, help='a checkpoint of the run, such as its last')
    parser.add_argument('--device', default='cpu')
    return parser.parse_args(argv)

"""Train any config of mmdet, mmseg or kddense; the same arguments as the scripts of mmdet and mmseg.

kddense train configs/chen2017/chen_r50_r18_fpn_1x_coco.py --amp
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from mmengine.config import Config

from kddense.apps.command_line import add_common_arguments, build_runner, in_one_sentence, new_parser, read_config
from kddense.errors import ConfigError
from kddense.training import Interruption
from kddense.training.checkpoints import find_checkpoint
from kddense.training.last_validation import LastValidationHook
from kddense.training.quantised import FloatRunHook
from kddense.training.replaced import check_optimisers

INTERRUPTED = 128 + signal.SIGINT  # the exit status, as shells give it


@in_one_sentence()
def main(argv: Sequence[str] | None = None) -> None:
    """Train a config.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parse_args(argv)
    try:
        train(_config_of(args))
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def train(config: Config) -> None:
    """Train a config; Ctrl-C ends it between two steps with a checkpoint, and a line that says how to go on.

    Raises:
        KeyboardInterrupt: After Ctrl-C.
    """
    interruption = Interruption()
    with interruption.listening() if config.get('launcher', 'none') == 'none' else nullcontext():
        try:
            runner = build_runner(config)
            runner.register_hook(interruption)
            runner.register_hook(FloatRunHook())
            runner.register_hook(LastValidationHook())
            with in_one_sentence(config):
                check_optimisers(config)
                runner.train()
        except KeyboardInterrupt:
            last = interruption.checkpoint or find_checkpoint(Path(config.work_dir))
            print(f'interrupted: --resume goes on from {last}' if last else 'interrupted before the first checkpoint')
            raise


def _config_of(args: argparse.Namespace) -> Config:
    config = read_config(args)
    if 'optim_wrapper' not in config:
        raise ConfigError(f"'{args.config}' has no optim_wrapper: it is no config to train by")
    if args.amp:
        config.optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')
    if args.auto_scale_lr:
        _scale_learning_rate(config)
    if args.resume:
        config.resume = True
        config.load_from = None if args.resume == 'auto' else args.resume
    return config


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='a training config')
    parser.add_argument('--resume', nargs='?', const='auto', help='a checkpoint to go on from; the latest by default')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    add_common_arguments(parser)
    return parser.parse_args(argv)


def _scale_learning_rate(config: Config) -> None:
    if 'base_batch_size' not in config.get('auto_scale_lr', {}):
        raise SystemExit('--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=…) in the config')
    config.auto_scale_lr.enable = True

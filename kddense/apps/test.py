"""Test a checkpoint, or a file of kddense export --onnx: with the student's own config, or with the one that distilled it.

kddense test configs/chen2017/faster-rcnn_r18_fpn_1x_coco.py work_dirs/chen_r50_r18_fpn_1x_coco/epoch_12.pth
kddense test configs/chen2017/faster-rcnn_r18_fpn_1x_coco.py exported/my_student.int8.onnx
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from kddense.apps.command_line import add_common_arguments, build_runner, in_one_sentence, new_parser, read_config
from kddense.configs import is_distiller
from kddense.errors import ConfigError
from kddense.export.onnx_model import OnnxModel
from kddense.registry import name_of
from kddense.training.quantised import FloatRunHook, drop_quantising

from .same_model import check_same_model


@in_one_sentence()
def main(argv: Sequence[str] | None = None) -> None:
    """Test a checkpoint.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parse_args(argv)
    config = read_config(args)
    own = name_of(config.model.type) == 'EnsembleModel'  # its members have checkpoints of their own
    if own and args.checkpoint is not None:
        raise ConfigError('leave it out: a kddense.EnsembleModel has its own checkpoints', 'checkpoint')
    if not own and args.checkpoint is None:
        raise ConfigError('which one is to be tested?', 'checkpoint')
    config.load_from = args.checkpoint
    config.resume = False  # as a work_dir's config says that was resumed
    if is_distiller(config.model):
        # Testing needs no teacher, nor its checkpoint.
        config.model = config.model.student
    exported = not own and Path(args.checkpoint).suffix == '.onnx'
    if exported:
        _put_in_place(config, args.checkpoint)
    runner = build_runner(config)
    if exported:
        runner.register_hook(SameClassesHook(), priority='VERY_LOW')
    elif not own:
        runner.register_hook(SameModelHook(args.checkpoint), priority='VERY_LOW')
        runner.register_hook(FloatRunHook())
    with in_one_sentence(config):
        runner.test()


def _put_in_place(config: Config, file: str) -> None:
    """Let an ONNX file predict in place of a config's model: it holds its weights, and computes in its own bits."""
    config.model = dict(type=f'kddense.{OnnxModel.__name__}', file=file, model=config.model)
    config.load_from = None
    drop_quantising(config)


class SameClassesHook(Hook):
    """Refuses an ONNX file whose classes have other names than those of the test's images."""

    def before_test(self, runner: Runner) -> None:
        """Raise a ConfigError if both are known and differ."""
        model: Any = getattr(runner.model, 'module', runner.model)
        own, theirs = model.file.classes, runner.test_dataloader.dataset.metainfo.get('classes')
        if own and theirs and list(own) != list(theirs):
            raise ConfigError(
                f': {model.file.file} finds {_some(own)}, and test_dataloader has {_some(theirs)}: give the config of the '
                "file's own model"
            )


def _some(names: Sequence[str], most: int = 5) -> str:
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')


class SameModelHook(Hook):
    """Refuses a checkpoint that is not of the model: mmengine warns of it, and then measures chance.

    Args:
        checkpoint: What messages call it.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Raise a ConfigError unless the checkpoint holds every weight of the model, and no other."""
        check_same_model(getattr(runner.model, 'module', runner.model), checkpoint, self.checkpoint)


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='a config; of a distillation, the student is tested')
    parser.add_argument(
        'checkpoint', nargs='?', help='its weights, or an ONNX file of it; of a kddense.EnsembleModel none'
    )
    add_common_arguments(parser)
    return parser.parse_args(argv)

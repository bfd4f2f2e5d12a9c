"""Test a checkpoint: with the student's own config, or with the config that distilled it.

kddense test configs/chen2017/faster-rcnn_r18_fpn_1x_coco.py work_dirs/chen_r50_r18_fpn_1x_coco/epoch_12.pth
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from kddense.apps.command_line import add_common_arguments, build_runner, new_parser, read_config
from kddense.configs import is_distiller


def main(argv: Sequence[str] | None = None) -> None:
    """Test a checkpoint.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parse_args(argv)
    config = read_config(args)
    config.load_from = args.checkpoint
    if is_distiller(config.model):
        # Testing needs no teacher, nor its checkpoint.
        config.model = config.model.student
    build_runner(config).test()


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='a config; of a distillation, the student is tested')
    parser.add_argument('checkpoint')
    add_common_arguments(parser)
    return parser.parse_args(argv)

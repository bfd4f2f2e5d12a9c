"""Measure how wrong a teacher is over the training set, before a training with attentive imitation.

    kddense teacher-errors configs/ail/ail_r18_r18-w8_depth_nyuv2.py work_dirs/nyuv2/teacher_errors.json

The config's objective then takes it as `error_range='work_dirs/nyuv2/teacher_errors.json'`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, DictAction

from kddense.apps.command_line import new_parser
from kddense.configs import find_config
from kddense.objectives.ail.prepass import measure_teacher_errors
from kddense.objectives.ail.teacher_error import write_teacher_errors


def main(argv: Sequence[str] | None = None) -> None:
    """Measure a teacher's errors, and write them.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parse_args(argv)
    config = Config.fromfile(find_config(args.config))
    config.merge_from_dict(args.cfg_options)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    errors = measure_teacher_errors(config, args.objective, args.device)
    write_teacher_errors(args.out, errors)
    print(
        f'\n{errors.count} samples, errors from {errors.minimum:.4g} to {errors.maximum:.4g} '
        f'(median {errors.percentiles[50]:.4g}); written to {args.out}'
    )


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='a training config with a kddense.Distiller')
    parser.add_argument('out', type=Path, help='the JSON file to write')
    parser.add_argument('--objective', help='which objective, if several need it')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, help='changes to the config')
    return parser.parse_args(argv)

"""Measure how wrong a teacher is over the training set, before a training with attentive imitation.

    kddense teacher-errors configs/ail/ail_r18_r18-w8_depth_nyuv2.py work_dirs/nyuv2/teacher_errors.json

The config's objective then takes it as `error_range='work_dirs/nyuv2/teacher_errors.json'`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from kddense.apps.command_line import ConfigOptions, change_config, in_one_sentence, new_parser
from kddense.configs import find_config, is_distiller, read_config_file
from kddense.errors import ConfigError
from kddense.objectives.ail.prepass import measure_teacher_errors
from kddense.objectives.ail.teacher_error import write_teacher_errors


@in_one_sentence()
def main(argv: Sequence[str] | None = None) -> None:
    """Measure a teacher's errors, and write them.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parse_args(argv)
    config = read_config_file(find_config(args.config))
    change_config(config, args.cfg_options)
    if 'model' not in config or not is_distiller(config.model):
        raise ConfigError(f"'{args.config}' distils nothing: its model is no kddense.Distiller")
    if args.out.is_dir():
        raise ConfigError(f'{args.out} is a folder: name the JSON file to write')
    errors = measure_teacher_errors(config, args.objective, args.device)
    args.out.parent.mkdir(parents=True, exist_ok=True)
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
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='changes to the config')
    return parser.parse_args(argv)

"""Write one HTML page about a distillation: results, costs, predictions, what was distilled, training curves.

kddense report --teacher work_dirs/teacher --plain work_dirs/student --distilled work_dirs/distilled
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.logging import MMLogger

from kddense.apps.command_line import count, new_parser
from kddense.apps.noise import ignore_known_warnings
from kddense.errors import ConfigError
from kddense.report.report import write_report


def main(argv: Sequence[str] | None = None) -> None:
    """Write the report, and print its summary.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parse_args(argv)
    ignore_known_warnings()
    command = shlex.join(['kddense', 'report', *(sys.argv[1:] if argv is None else argv)])
    MMLogger.get_instance('report', log_level='ERROR')
    try:
        check_folders(args.distilled)
        report = write_report(**vars(args), command=command)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    for line in (*report.summary(), *(f'missing: {fault}' for fault in report.faults)):
        print(line)
    print(f'the report is {args.out}')


def check_folders(folders: Sequence[Path]) -> None:
    """Raise a ConfigError for a work_dir of a distillation that is none: there is nothing to report."""
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f'--distilled: there is no folder {folder}')
        if not any(folder.glob('*.pth')) and not any(folder.glob('*/vis_data/scalars.json')):
            raise ConfigError(
                f'--distilled: {folder} holds no results, neither a checkpoint nor a log: is it the work_dir of a run?'
            )


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('--distilled', nargs='+', type=Path, required=True, help='work_dirs of distillations')
    parser.add_argument('--plain', type=Path, help='the work_dir of the plain student')
    parser.add_argument(
        '--plain-same-time', type=Path, help='the work_dir of a plain student that trained as long by the clock'
    )
    parser.add_argument(
        '--teacher', type=Path, help="the teacher's work_dir; by default what the distillation's config names"
    )
    parser.add_argument('--out', type=Path, default=Path('report.html'))
    parser.add_argument('--split', choices=['val', 'test'], default='val', help='what to measure on')
    parser.add_argument('--images', type=count, default=4, help='how many images to show')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--trust-checkpoint', action='store_true', help='load checkpoints that hold pickled code')
    return parser.parse_args(argv)

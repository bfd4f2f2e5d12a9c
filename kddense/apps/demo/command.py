"""Generate street scenes, train a teacher, a plain and a distilled student on them, and write a report to look at.

    kddense demo --task detection

The same command again goes on where it was cut off, and does nothing twice.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import MMLogger

from kddense.apps.command_line import ConfigOptions, new_parser

from .demo import Demo
from .tasks import TASKS
from .training import DemoError

CONFIGS = (Path(__file__).parents[2] / '.mim' / 'configs' / 'demo').resolve()


def main(argv: Sequence[str] | None = None) -> None:
    """Run a demo, and print its summary.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parser().parse_args(argv)
    MMLogger.get_instance('demo', log_level='ERROR')
    work_dir = args.work_dir or Path('work_dirs') / ('demo' if args.task == 'detection' else f'demo_{args.task}')
    demo = Demo(args.task, CONFIGS, work_dir, args.scenes, tuple(args.images), args.cfg_options)
    for closing in (signal.SIGTERM, signal.SIGHUP):  # trainings are saved as after Ctrl-C
        signal.signal(closing, signal.default_int_handler)
    try:
        summary = demo.run()
    except (DemoError, ModuleNotFoundError, ValueError, OSError) as error:
        sys.exit(f'\nerror: {error}')
    except KeyboardInterrupt:
        sys.exit('\ninterrupted: the same command goes on from here')
    print('\n'.join(summary))


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('--task', choices=list(TASKS), default='detection')
    parser.add_argument('--work-dir', type=Path, help='work_dirs/demo, or work_dirs/demo_<task>, by default')
    parser.add_argument('--scenes', type=Path, default=Path('work_dirs/street_scenes'), help='where the scenes go')
    parser.add_argument('--images', nargs=2, type=int, default=[400, 100], metavar=('TRAIN', 'VAL'))
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='changes to all trainings')
    return parser

"""What the subcommands share: arguments of mmdet's and mmseg's scripts, and the runner they lead to."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from kddense.configs import find_config

from .noise import QuietRunner, ignore_known_warnings


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the description as it is written, which calls itself what it was called by."""
    return argparse.ArgumentParser(
        prog=os.path.basename(sys.argv[0]),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what training and testing both take, under the names that the stock scripts gave it."""
    parser.add_argument('--work-dir', help='where the results go; work_dirs/<config> by default')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='changes to the config, key=value'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by launchers')


def read_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` with the changes that the common arguments make to it."""
    ignore_known_warnings()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    config = Config.fromfile(find_config(args.config))
    config.launcher = args.launcher
    config.merge_from_dict(args.cfg_options)
    config.work_dir = args.work_dir or config.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    return config


def build_runner(config: Config) -> Runner:
    """Build the runner that a config asks for; by default mmengine's own, less the known noise of its log."""
    return RUNNERS.build(config) if 'runner_type' in config else QuietRunner.from_cfg(config)

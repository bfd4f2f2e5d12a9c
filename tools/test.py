"""Test a checkpoint: with the student's own config, or with the config that distilled it.

python tools/test.py configs/chen2017/faster-rcnn_r18_fpn_1x_coco.py work_dirs/chen_r50_r18_fpn_1x_coco/epoch_12.pth
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from kddense.teacher import is_distiller


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a config; of a distillation, the student is tested')
    parser.add_argument('checkpoint')
    parser.add_argument('--work-dir', help='where the metrics go; work_dirs/<config> by default')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='changes to the config, key=value'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by launchers')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    config = Config.fromfile(args.config)
    config.launcher = args.launcher
    config.merge_from_dict(args.cfg_options)
    config.work_dir = args.work_dir or config.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    config.load_from = args.checkpoint
    if is_distiller(config.model):
        # Testing needs no teacher, nor its checkpoint.
        config.model = config.model.student
    runner = RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)
    runner.test()


if __name__ == '__main__':
    main()

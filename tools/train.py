"""Train any config of mmdet, mmseg or kddense; the same arguments as the scripts of mmdet and mmseg.

python tools/train.py configs/chen2017/chen_r50_r18_fpn_1x_coco.py --amp
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import kddense  # noqa: F401


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a training config')
    parser.add_argument('--work-dir', help='where logs and checkpoints go; work_dirs/<config> by default')
    parser.add_argument('--resume', nargs='?', const='auto', help='a checkpoint to go on from; the latest by default')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
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
    if args.amp:
        config.optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')
    if args.auto_scale_lr:
        _scale_learning_rate(config)
    if args.resume:
        config.resume = True
        config.load_from = None if args.resume == 'auto' else args.resume
    runner = RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)
    runner.train()


def _scale_learning_rate(config: Config) -> None:
    if 'base_batch_size' not in config.get('auto_scale_lr', {}):
        raise SystemExit('--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=…) in the config')
    config.auto_scale_lr.enable = True


if __name__ == '__main__':
    main()

"""Time a distillation step against the plain student's step and the teacher's forward.

    python tools/benchmark_step.py --config configs/hinton/hinton_r50_r18_pspnet_512x1024_cityscapes.py --shape 2 256 512

Prints medians of interleaved rounds on made-up images, the ratio step / (student + teacher in float32), each objective's
share and the peak memory. Weights do not matter: no checkpoint is needed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from mmengine.config import Config, DictAction

import kddense  # noqa: F401
from kddense.apps.benchmark import Costs, measure


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', required=True, help='a training config with a kddense.Distiller')
    parser.add_argument('--shape', nargs=3, type=int, default=[2, 320, 320], metavar=('N', 'H', 'W'))
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument('--threads', type=int, help="PyTorch's threads on the CPU; its own choice by default")
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, help='changes to the config')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options)
    costs = measure(config, tuple(args.shape), args.device, args.rounds)
    print(report(costs))
    if args.json:
        setting = {
            'config': args.config,
            'shape': args.shape,
            'device': args.device,
            'threads': torch.get_num_threads(),
        }
        args.json.write_text(json.dumps({**setting, **costs.as_dict()}, indent=2))


def report(costs: Costs) -> str:
    lines = [
        f'plain student, one step        {costs.student:9.1f} ms',
        f'teacher, float32 forward       {costs.teacher:9.1f} ms',
        f'distillation, one step         {costs.step:9.1f} ms',
        f'step / (student + teacher)     {costs.ratio:9.3f}',
        f'peak memory                    {costs.peak_memory:9.0f} MiB',
    ]
    for name, milliseconds in costs.objectives.items():
        share = 100 * milliseconds / costs.step
        lines.append(f'objective {name:<20} {milliseconds:9.1f} ms, {share:.1f} % of the step')
    return '\n'.join(lines)


if __name__ == '__main__':
    main()

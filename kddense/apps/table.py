"""Train several configs with several seeds through the stock scripts, test the checkpoints, and print one table.

Each run is ``tools/train.py CONFIG`` and then ``tools/test.py PLAIN CHECKPOINT``, both of mmdet or mmseg, where PLAIN is
the student's own config: the checkpoint of a distilled student is tested as the plain model that it is. Runs that are
done are not repeated, and a run that was cut off is resumed.

    python tools/measure_table.py --plain configs/chen2017/faster-rcnn_r18-w16_fpn_bccd.py \\
        --configs configs/chen2017/chen_r18_r18-w16_fpn_bccd.py --seeds 0 1 2 --work-dir work_dirs/bccd
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mmengine.utils import get_installed_path

DEPTH_METRICS = ('abs_rel', 'sq_rel', 'rmse', 'rmse_log', 'log10', 'silog', 'd1', 'd2', 'd3')  # metres and fractions


def main(argv: Sequence[str] | None = None) -> None:
    """Train and test what is not done yet, and print the table.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parse_args(argv)
    configs = [args.plain, *args.configs]
    if not args.report_only:
        for seed in args.seeds:
            for config in configs:
                measure(args, config, seed)
    print(table(args, configs))


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--plain', required=True, help="the student's own config: the baseline, and what is tested")
    parser.add_argument('--configs', nargs='*', default=[], help='configs that distil into that student')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--work-dir', type=Path, required=True)
    parser.add_argument('--package', choices=['mmdet', 'mmseg'], default='mmdet', help='whose scripts to run')
    parser.add_argument('--cfg-options', nargs='*', default=[], help='passed on to every training')
    parser.add_argument('--report-only', action='store_true', help='print the table of what is done')
    return parser.parse_args(argv)


def folder(args: argparse.Namespace, config: str, seed: int) -> Path:
    return args.work_dir / Path(config).stem / f'seed_{seed}'


def measure(args: argparse.Namespace, config: str, seed: int) -> None:
    """Train and test once, and leave ``result.json`` in the run's folder."""
    run = folder(args, config, seed)
    if (run / 'result.json').exists():
        return
    started = time.time()
    options = [f'randomness.seed={seed}', *args.cfg_options]
    call(args, 'train.py', config, '--work-dir', run, '--resume', '--cfg-options', *options)
    seconds = time.time() - started
    checkpoint = Path((run / 'last_checkpoint').read_text().strip())
    call(args, 'test.py', args.plain, checkpoint, '--work-dir', run / 'test')
    scores = json.loads(newest(run / 'test').read_text())
    result = {'config': config, 'seed': seed, 'seconds': seconds, 'scores': scores}
    (run / 'result.json').write_text(json.dumps(result, indent=2))


def call(args: argparse.Namespace, script: str, *arguments: object) -> None:
    path = Path(get_installed_path(args.package)) / '.mim' / 'tools' / script
    subprocess.run([sys.executable, path, *map(str, arguments)], check=True)


def newest(folder: Path) -> Path:
    """Return the metrics that the last test in ``folder`` wrote: ``<timestamp>/<timestamp>.json``."""
    return max(folder.glob('*/*.json'), key=lambda path: path.stat().st_mtime)


def table(args: argparse.Namespace, configs: list[str]) -> str:
    """Return mean ± standard deviation over seeds, in Markdown."""
    rows = {config: results(args, config) for config in configs}
    scores = [result['scores'] for group in rows.values() for result in group]
    metrics = [key for key, value in scores[0].items() if isinstance(value, float) and 'time' not in key]
    lines = ['| config | seeds | ' + ' | '.join(metrics) + ' | minutes |', '|---' * (len(metrics) + 3) + '|']
    for config, group in rows.items():
        if not group:
            continue
        cells = [
            spread([result['scores'][metric] * scale(metric) for result in group], digits(metric)) for metric in metrics
        ]
        minutes = spread([result['seconds'] / 60 for result in group])
        lines.append(f'| {Path(config).stem} | {len(group)} | ' + ' | '.join(cells) + f' | {minutes} |')
    return '\n'.join(lines)


def scale(metric: str) -> float:
    return 100 if metric.startswith('coco/') else 1


def digits(metric: str) -> int:
    return 4 if metric in DEPTH_METRICS else 2


def results(args: argparse.Namespace, config: str) -> list[dict]:
    files = [folder(args, config, seed) / 'result.json' for seed in args.seeds]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def spread(values: list[float], digits: int = 2) -> str:
    deviation = f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.{digits}f}{deviation}'

"""Train configs with several seeds through the stock scripts, test them, and say which methods help.

    kddense measure --plain configs/chen2017/faster-rcnn_r18-w16_fpn_bccd.py --seeds 0 1 2 \\
        --configs configs/chen2017/chen_r18_r18-w16_fpn_bccd.py --work-dir work_dirs/bccd

trains the plain student and each config with every seed, tests all as the plain model that they are, and prints one table
in Markdown: mean and standard deviation, the difference from the plain student of the same seed with its 95 % interval, and
a verdict. ``--same-time`` adds the plain student that trains for as long as the dearest config takes. Runs that are done are
not repeated, and a run that was cut off is resumed. Every run leaves a small ``result.json``; ``--add`` takes those of other
machines into the table, and ``--json`` records it. ``--show`` prints tables that were recorded.

``--then`` adds configs that go on from each trained student, such as quantisation-aware training with and without a teacher:
they read ``load_from = '{{$STUDENT:some.pth}}'``, and all are tested with the first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kddense.apps.command_line import count, in_one_sentence, new_parser
from kddense.configs import find_config, read_config_file
from kddense.training.settings import steps_of

from .markdown import markdown
from .result import Result, read_result
from .runs import Plan, done, parsed, run, scores_in
from .table import Table, make_table, read_table
from .timing import step_times, steps_that_fit


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = new_parser(__doc__)
    parser.add_argument('--plain', help="the student's own config: the baseline, and what is tested")
    parser.add_argument('--configs', nargs='*', default=[], help='configs that distil into that student')
    parser.add_argument(
        '--then',
        nargs='*',
        default=[],
        help='configs that go on from a trained student, whose checkpoint is their $STUDENT',
    )
    parser.add_argument('--then-from', help='the config whose students those are; --plain by default')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--work-dir', type=Path)
    parser.add_argument('--package', choices=['mmdet', 'mmseg'], default='mmdet', help='whose scripts to run')
    parser.add_argument('--cfg-options', nargs='*', default=[], help='passed on to every training')
    parser.add_argument(
        '--channels-last', action='store_true', help='train students in the memory format that suits CPUs'
    )
    parser.add_argument(
        '--same-time', action='store_true', help='also train the plain student for as long as the dearest config'
    )
    parser.add_argument(
        '--share-teacher',
        type=count,
        metavar='VARIANTS',
        help='keep what teachers say of so many variants of each image, for all runs: as many as epochs, or fewer',
    )
    parser.add_argument(
        '--teacher', nargs=2, metavar=('CONFIG', 'JSON'), help='its config, and the metrics that its test wrote'
    )
    parser.add_argument(
        '--split', choices=['test', 'val'], default='test', help='images to test on; choose settings on val'
    )
    parser.add_argument('--metric', help='what decides; mAP, mIoU or abs_rel by default')
    parser.add_argument('--add', nargs='*', type=Path, default=[], help='results of other machines: result.json files')
    parser.add_argument('--json', type=Path, help='also record the table in this file')
    parser.add_argument('--report-only', action='store_true', help='print the table of what is done')
    parser.add_argument('--show', nargs='+', type=Path, help='print recorded tables, and do nothing else')
    args = parser.parse_args(arguments)
    if not args.show and not (args.plain and args.work_dir):
        parser.error('give --plain and --work-dir, or --show and recorded tables')
    if args.share_teacher and args.same_time:
        parser.error(
            '--same-time: with --share-teacher the first run asks the teacher and the others read, so a step has no one time'
        )
    args.then_from = args.then_from or args.plain
    if args.then and args.then_from not in (args.plain, *args.configs):
        parser.error(
            f'--then-from {args.then_from}: it is neither --plain nor one of --configs, so nothing trains its students'
        )
    return args


@in_one_sentence()
def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks.

    Args:
        arguments: In place of the command line's.

    Returns:
        The exit status: 0, or 1 if there is nothing to show.
    """
    args = parse(arguments)
    if args.show:
        return _show(args.show)
    same_time = _same_time_steps(args) if args.same_time else None
    plan = Plan(
        plain=args.plain,
        configs=tuple(args.configs),
        seeds=tuple(args.seeds),
        work_dir=args.work_dir,
        package=args.package,
        then=tuple(args.then),
        then_from=args.then_from,
        options=tuple(args.cfg_options),
        channels_last=args.channels_last,
        same_time_steps=same_time,
        split=args.split,
        variants=args.share_teacher,
    )
    if not args.report_only:
        for job in plan.jobs():
            run(plan, job)
            _record(args, plan)
    table = _record(args, plan)
    if table is None:
        print('nothing is measured yet', file=sys.stderr)
        return 1
    print(markdown(table.contents))
    _print_faults(table.faults)
    return 0


def _record(args: argparse.Namespace, plan: Plan) -> Table | None:
    """Make the table of what is there, and write it."""
    results, faults = done(plan)
    folders: dict[int, Path] = {index: plan.folder(_job(result)) for index, result in enumerate(results)}
    for file in args.add:
        try:
            results.append(read_result(file))
            folders[len(results) - 1] = file.parent
        except (ValueError, OSError) as error:
            faults.append(str(error))
    if not results:
        _print_faults(faults)
        return None
    table = make_table(results, args.metric, [_command(args)], folders, _teacher(args.teacher))
    table.faults[:0] = faults
    if args.json:
        if args.json.exists():
            keep_names(table.contents, read_table(args.json))
        table.write(args.json)
    return table


def keep_names(contents: dict[str, Any], before: dict[str, Any]) -> None:
    """Take over what a person wrote into the recorded table: titles of rows, and the teacher."""
    titles = {row['config']: row['title'] for row in before['rows'] if 'title' in row}
    for row in contents['rows']:
        if row['config'] in titles:
            row['title'] = titles[row['config']]
    contents['teacher'] = contents['teacher'] or before.get('teacher')


def _job(result: Result) -> Any:
    from .runs import Job

    return Job(result.config, result.role, result.seed)


def _command(args: argparse.Namespace) -> str:
    words = [
        'kddense measure',
        '--plain',
        args.plain,
        '--configs',
        *args.configs,
        '--seeds',
        *map(str, args.seeds),
    ]
    words += ['--package', args.package, '--work-dir', str(args.work_dir)]
    words += ['--then', *args.then, '--then-from', args.then_from] if args.then else []
    words += ['--split', args.split] if args.split != 'test' else []
    words += ['--same-time'] if args.same_time else []
    words += ['--channels-last'] if args.channels_last else []
    words += ['--share-teacher', str(args.share_teacher)] if args.share_teacher else []
    words += ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    return ' '.join(words)


def _teacher(given: Sequence[str] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    config, file = given
    return {'config': config, 'scores': scores_in(json.loads(Path(file).read_text()))}


def _same_time_steps(args: argparse.Namespace) -> int | None:
    """Return how long the plain student trains in the time of the dearest config; each is timed once in a work_dir."""
    options = parsed(args.cfg_options)
    file = args.work_dir / 'step_times.json'
    times: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    missing = [config for config in args.configs if config not in times.get('ratio', {})]
    if missing and not args.report_only:
        args.work_dir.mkdir(parents=True, exist_ok=True)
        more = step_times([args.plain, *missing], args.work_dir, options, args.channels_last)
        for key in ('seconds', 'ratio'):
            times[key] = {**more[key], **times.get(key, {})}
        file.write_text(json.dumps(times, indent=2) + '\n')
    if not times:
        return None
    config = read_config_file(find_config(args.plain), '--plain')
    config.merge_from_dict(options)
    steps, unit = steps_of(config)
    return steps_that_fit(steps, max(times['ratio'].values()), unit)


def _show(files: Sequence[Path]) -> int:
    shown = 0
    for file in files:
        try:
            table = read_table(file)
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)
            continue
        print(f'{file}\n\n{markdown(table)}\n')
        shown += 1
    return 0 if shown else 1


def _print_faults(faults: Sequence[str]) -> None:
    for fault in faults:
        print(f'- {fault}', file=sys.stderr)

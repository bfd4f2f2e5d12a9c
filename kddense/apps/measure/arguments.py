"""The command line of ``kddense measure``, and what follows from it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kddense.apps.command_line import count, new_parser, number_above_0
from kddense.files import value_digest, write_whole
from kddense.training.settings import steps_of

from .options import parsed, read_with
from .timing import step_times, steps_that_fit


def parse(arguments: Sequence[str] | None, description: str | None) -> argparse.Namespace:
    """Read the command line, and end the program if options contradict each other."""
    parser = _parser(description)
    args = parser.parse_args(arguments)
    _check_together(parser, args)
    args.split = args.split or ('val' if args.tries else 'test')
    args.then_from = args.then_from or args.plain
    if args.plain:
        _check_configs(parser, args)
    return args


def _parser(description: str | None) -> argparse.ArgumentParser:
    parser = new_parser(description)
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
    parser.add_argument(
        '--cfg-options', nargs='*', default=[], help='for all trainings; of a teacher where there is one'
    )
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
    parser.add_argument('--split', choices=['test', 'val'], help='images to test on: test, or val to choose settings')
    parser.add_argument(
        '--tries',
        nargs='+',
        type=number_above_0,
        metavar='FACTOR',
        help='try each config with all its weights times each of these, on val, and name the best',
    )
    parser.add_argument('--metric', help='what decides; mAP, mIoU or abs_rel by default')
    parser.add_argument('--add', nargs='*', type=Path, default=[], help='results of other machines: result.json files')
    parser.add_argument('--json', type=Path, help='also record the table in this file')
    parser.add_argument('--report-only', action='store_true', help='print the table of what is done')
    parser.add_argument('--show', nargs='+', type=Path, help='print recorded tables, and do nothing else')
    return parser


def _check_together(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if not args.show and not (args.plain and args.work_dir):
        parser.error('give --plain and --work-dir, or --show and recorded tables')
    if args.share_teacher and args.same_time:
        parser.error(
            '--same-time: with --share-teacher the first run asks the teacher and the others read, so a step has no one time'
        )
    if args.tries and (args.split == 'test' or args.same_time or args.then or not args.configs):
        parser.error(
            '--tries: weights of --configs are chosen on val, at the same steps: no --split test, --same-time, --then'
        )


def _check_configs(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.then and args.then_from not in (args.plain, *args.configs):
        parser.error(
            f'--then-from {args.then_from}: it is neither --plain nor one of --configs, so nothing trains its students'
        )
    folders: dict[str, str] = {}
    for config in (args.plain, *args.configs, *args.then):
        first = folders.setdefault(Path(config).stem, config)
        if first != config:
            parser.error(f'--configs: runs of {first} and {config} would share a folder: rename one of the two files')


def command_of(args: argparse.Namespace) -> str:
    """Return the command that trains, in words."""
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
    words += ['--split', args.split] if args.split != 'test' and not args.tries else []
    words += ['--tries', *(f'{factor:g}' for factor in args.tries)] if args.tries else []
    words += ['--same-time'] if args.same_time else []
    words += ['--channels-last'] if args.channels_last else []
    words += ['--share-teacher', str(args.share_teacher)] if args.share_teacher else []
    words += ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    return ' '.join(words)


def same_time_steps(args: argparse.Namespace) -> int | None:
    """Return how long the plain student trains in the time of the dearest config.

    Each is timed once in a folder, and again if it, the plain student's or the options have changed since.
    """
    options = parsed(args.cfg_options)
    plain = read_with(args.plain, options, '--plain')
    file = args.work_dir / 'step_times.json'
    times: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    digests = {one: _digest(plain, read_with(one, options), args.channels_last) for one in args.configs}
    missing = [one for one, digest in digests.items() if not _is_timed(times, one, digest)]
    if missing and not args.report_only:
        args.work_dir.mkdir(parents=True, exist_ok=True)
        more = step_times([args.plain, *missing], args.work_dir, options, args.channels_last)
        more['of'] = {one: digests[one] for one in missing}
        for key in ('seconds', 'ratio', 'of'):
            times[key] = {**times.get(key, {}), **more[key]}
        write_whole(file, (json.dumps(times, indent=2) + '\n').encode())
    ratios = [times['ratio'][one] for one, digest in digests.items() if _is_timed(times, one, digest)]
    if not ratios:
        return None
    steps, unit = steps_of(plain)
    return steps_that_fit(steps, max(ratios), unit)


def _digest(plain: Config, config: Config, channels_last: bool) -> str:
    """Return a digest of what two steps are compared of."""
    return value_digest([plain.to_dict(), config.to_dict(), channels_last])


def _is_timed(times: Mapping[str, Any], config: str, digest: str) -> bool:
    """Tell whether a config was timed as it is now; a time from before that was noted is taken as it is."""
    return config in times.get('ratio', {}) and times.get('of', {}).get(config, digest) == digest

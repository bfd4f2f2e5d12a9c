"""Train configs with several seeds through the stock scripts, test them, and say which methods help.

    kddense measure --plain configs/chen2017/faster-rcnn_r18-w16_fpn_bccd.py --seeds 0 1 2 \\
        --configs configs/chen2017/chen_r18_r18-w16_fpn_bccd.py --work-dir work_dirs/bccd

trains the plain student and each config with every seed, tests all as the plain model that they are, and prints one table
in Markdown: mean and standard deviation, the difference from the plain student of the same seed with its 95 % interval, and
a verdict. ``--same-time`` adds the plain student that trains for as long as the dearest config takes. Runs that are done are
not repeated, and a run that was cut off is resumed. Every run leaves a small ``result.json``; ``--add`` takes those of other
machines into the table, and ``--json`` records it. ``--show`` prints tables that were recorded.

``--tries 0.3 1 3`` chooses weights: each config with all its weights times each factor, tested on validation images.

``--then`` adds configs that go on from each trained student, such as quantisation-aware training with and without a teacher:
they read ``load_from = '{{$STUDENT:some.pth}}'``, and all are tested with the first.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import MODELS, DefaultScope

from kddense.apps.command_line import check_json, in_one_sentence
from kddense.configs import find_config, plain_model, read_config_file
from kddense.errors import ConfigError, within
from kddense.pretrained import without_pretrained

from .arguments import command_of, parse, same_time_steps
from .markdown import markdown, over_images
from .noted import check_runs
from .outcome import scores_in
from .plan import Job, NoStudentError, Plan
from .recorded import read_table
from .result import Result, read_result
from .runs import done, failed, run
from .table import Table, make_table
from .tries import Try, choose, write_tries


@in_one_sentence()
def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks.

    Args:
        arguments: In place of the command line's.

    Returns:
        The exit status: 0, or 1 if there is nothing to show.
    """
    args = parse(arguments, __doc__)
    if args.show:
        return _show(args.show)
    check_json(args.json)
    if args.json and args.json.exists():
        read_table(args.json)  # before what takes long: another file is not written over
    teacher = _teacher(args.teacher)
    same_time = same_time_steps(args) if args.same_time else None
    tries = write_tries(args.configs, args.tries, args.work_dir / 'tries') if args.tries else []
    plan = Plan(
        plain=args.plain,
        configs=tuple(one.file for one in tries) or tuple(args.configs),
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
        check_runs(plan)
        for job in plan.jobs():
            _run(plan, job)
            _record(args, plan, teacher, tries)
    table = _record(args, plan, teacher, tries)
    if table is None:
        print('nothing is measured yet', file=sys.stderr)
        return 1
    print('\n'.join([markdown(table.contents), '', *over_images(table.contents)]).rstrip())
    _print_faults(table.faults)
    return 0 if (table.contents['plain'] or table.contents['rows']) and not failed(plan) else 1


def _run(plan: Plan, job: Job) -> None:
    """Run; of what fails the others go on, unless it is what they are compared with."""
    try:
        run(plan, job)
    except (subprocess.CalledProcessError, NoStudentError) as error:
        if job.role == 'plain':
            sys.exit(f'error: {_told(job, error)}')
        print(f'{_told(job, error)}; the others go on', file=sys.stderr)


def _told(job: Job, error: subprocess.CalledProcessError | NoStudentError) -> str:
    if isinstance(error, NoStudentError):
        return str(error)
    script = Path(error.cmd[1]).name
    return f'{job.config}, seed {job.seed}: {script} failed with status {error.returncode}, for what stands above'


def _record(args: argparse.Namespace, plan: Plan, teacher: dict[str, Any] | None, tries: Sequence[Try]) -> Table | None:
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
    table = make_table(results, args.metric, [command_of(args)], folders, teacher)
    if tries:
        metric = table.contents['metric']
        lost = [one.config for one in results if not math.isfinite(one.scores.get(metric, 0.0))]
        faults += choose(table.contents, tries, args.seeds, [*(job.config for job in failed(plan)), *lost])
    table.faults[:0] = faults
    if args.json:
        table.write_over(args.json)
    return table


def _job(result: Result) -> Job:
    return Job(result.config, result.role, result.seed)


def _teacher(given: Sequence[str] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    path, file = given
    try:
        scores = scores_in(json.loads(Path(file).read_text()))
    except (ValueError, AttributeError):
        raise ConfigError(f'--teacher: {file} holds no metrics that a test wrote') from None
    config = read_config_file(find_config(path), '--teacher')
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmengine')), within('--teacher'):
        model = MODELS.build(without_pretrained(plain_model(config)))
    return {'config': path, 'scores': scores, 'parameters': sum(part.numel() for part in model.parameters())}


def _show(files: Sequence[Path]) -> int:
    shown = 0
    for file in files:
        try:
            table = read_table(file)
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)
            continue
        print('\n'.join([f'{file}\n', markdown(table), '', *over_images(table)]).rstrip() + '\n')
        shown += 1
    return 0 if shown else 1


def _print_faults(faults: Sequence[str]) -> None:
    for fault in faults:
        print(f'- {fault}', file=sys.stderr)

"""From a student's config and a teacher to a trained, tested student and a report, in one call.

    kddense distill my_student.py --teacher my_teacher.py teacher.pth --compare

looks at both models and chooses a recipe, tests the teacher on the student's validation images, writes the config that is
trained, trains, tests, and writes report.html. The same command again goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.logging import MMLogger

from kddense.apps.command_line import ConfigOptions, new_parser

from .distillation import Distillation, DistillError

AMP = {'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.loss_scale': 'dynamic'}


def main(argv: Sequence[str] | None = None) -> None:
    """Distil.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parser().parse_args(argv)
    MMLogger.get_instance('distill', log_level='ERROR')
    config, checkpoint = args.teacher
    distillation = Distillation(
        student=args.student,
        teacher=config,
        checkpoint=checkpoint,
        recipe=args.recipe,
        work_dir=args.work_dir,
        student_checkpoint=args.student_checkpoint,
        unlabelled=args.unlabelled,
        compare=args.compare,
        test_teacher=not args.no_teacher_test,
        seed=args.seed,
        options={**(AMP if args.amp else {}), **args.cfg_options},
        split=args.split,
        device=args.device,
        trust_checkpoint=args.trust_checkpoint,
        say=lambda text: print(text, flush=True),
    )
    try:
        _run(distillation, args.dry_run)
    except (DistillError, ValueError, TypeError, KeyError, OSError, ImportError) as error:
        sys.exit(f'error: {error.args[0] if isinstance(error, KeyError) and error.args else error}')
    except KeyboardInterrupt:
        sys.exit('\ninterrupted: the same command goes on from here')


def _run(distillation: Distillation, dry_run: bool) -> None:
    if dry_run:
        distillation.prepare()
        return
    report = distillation.run()
    for line in (*report.summary(), *(f'missing: {fault}' for fault in report.faults)):
        print(line)
    print(f'the report is {distillation.page}')


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('student', help="the student's plain config: a path, or package::path")
    parser.add_argument(
        '--teacher', nargs=2, required=True, metavar=('CONFIG', 'CHECKPOINT'), help="the teacher's config and weights"
    )
    parser.add_argument(
        '--recipe', help='a name from configs/_base_/recipes, or a path; what fits the models by default'
    )
    parser.add_argument('--work-dir', type=Path, help='where everything goes; work_dirs/distill_<student> by default')
    parser.add_argument(
        '--unlabelled',
        nargs='+',
        default=[],
        metavar='IMAGES',
        help='images without labels that the teacher speaks of too: folders, patterns, lists, videos, COCO files',
    )
    parser.add_argument('--compare', action='store_true', help='train the plain student too, with the same seed')
    parser.add_argument('--dry-run', action='store_true', help='stop when the configs are written')
    parser.add_argument('--student-checkpoint', help='weights of a plain student that the teacher must be better than')
    parser.add_argument('--no-teacher-test', action='store_true', help='let the teacher teach without a test')
    parser.add_argument('--seed', type=int, help="of the random numbers; the student's own by default, or 0")
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--split', choices=['val', 'test'], default='val', help='what the report measures on')
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, default={}, help="changes to the student's config, key=value"
    )
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='where models are tested'
    )
    parser.add_argument('--trust-checkpoint', action='store_true', help='load checkpoints that hold pickled code')
    return parser

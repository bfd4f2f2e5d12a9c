"""Generate street scenes for detection, segmentation and depth, in the layouts of Cityscapes, COCO and NYU.

kddense scenes data/street_scenes --train 400 --val 100 --difficulty medium
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kddense.apps.command_line import count, new_parser

from .frame import LEAST_PIXELS
from .writing import DIFFICULTIES, StreetScenes


def main(argv: Sequence[str] | None = None) -> None:
    """Write street scenes.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parse_args(argv)
    width, height = args.size
    try:
        scenes = StreetScenes(
            args.train, args.val, width, height, _number_or_name(args.difficulty), args.seed, args.smallest
        )
        folder = scenes.write(args.folder, args.processes, progress=sys.stderr.isatty())
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('\ninterrupted: the same command goes on from here')
    print(f'{args.train + args.val} street scenes are in {folder}')


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('folder', type=Path, help='where to; a call that was cut off is continued')
    parser.add_argument('--train', type=count, default=400, help='images to train on')
    parser.add_argument('--val', type=count, default=100, help='images to validate on')
    parser.add_argument('--size', nargs=2, type=count, default=[256, 128], metavar=('WIDTH', 'HEIGHT'))
    parser.add_argument('--difficulty', default='medium', help=f'{", ".join(DIFFICULTIES)}, or a number from 0 to 1')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--smallest', type=int, default=LEAST_PIXELS, help='pixels that a thing must show to be counted'
    )
    parser.add_argument('--processes', type=count, help='as many as there are cores by default')
    return parser.parse_args(argv)


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text

"""Export the student of a run: a plain checkpoint and config for stock mmdet and mmseg, and if asked for ONNX.

kddense export work_dirs/chen_r50_r18_fpn_1x_coco exported/my_student.pth --onnx
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kddense.apps.command_line import count, new_parser
from kddense.export import DYNAMIC, OUTPUTS, Agreement, Exported, Int8Report, OnnxReport, export_student


def main(argv: Sequence[str] | None = None) -> None:
    """Export a student, and say what was written.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = vars(_parse_args(argv))
    try:
        exported = export_student(**args)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        sys.exit(f'error: {error}')
    print(report(exported))


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('source', type=Path, help='a work_dir, whose last checkpoint is taken, or a checkpoint')
    parser.add_argument('out', type=Path, help='the checkpoint to write, *.pth; the config goes beside it as *.py')
    parser.add_argument('--config', type=Path, help="the run's config, if neither work_dir nor checkpoint has it")
    parser.add_argument('--ema', action='store_true', help="the averaged weights of mmengine's EMAHook")
    parser.add_argument(
        '--quantised', action='store_true', help='the weights as the QuantiseHook of the run rounds them, still floats'
    )
    parser.add_argument(
        '--calibrate',
        type=count,
        metavar='BATCHES',
        help='with --quantised: find the scales of activations on so many batches of training images',
    )
    parser.add_argument('--onnx', action='store_true', help='also write *.onnx, and compare it with PyTorch')
    parser.add_argument('--shape', nargs=2, type=count, metavar=('H', 'W'), help='of the images for --onnx')
    parser.add_argument(
        '--outputs',
        choices=OUTPUTS,
        default='results',
        help='of the ONNX file: boxes after suppression, class maps, metres; all boxes, logits; maps of the neck',
    )
    parser.add_argument(
        '--dynamic',
        choices=DYNAMIC,
        default='size',
        help='what of its images may vary: number and size, number, nothing',
    )
    parser.add_argument('--padded', action='store_true', help='it also takes the sizes of images without their padding')
    parser.add_argument('--int8', action='store_true', help='also write it in 8 bits, *.int8.onnx')
    parser.add_argument(
        '--images',
        type=Path,
        metavar='FOLDER',
        help='it is compared with PyTorch on these, and they calibrate --int8',
    )
    parser.add_argument('--force', action='store_true', help='overwrite an earlier export')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='run code that the checkpoint holds or its config names, if you trust it',
    )
    return parser.parse_args(argv)


def report(exported: Exported) -> str:
    lines = [f'{exported.source} is exported to {", ".join(map(str, exported.files))}']
    if exported.onnx is not None:
        lines += report_onnx(exported.onnx)
    if exported.int8 is not None:
        lines.append(report_int8(exported.int8))
    return '\n'.join([*lines, *(f'note: {note}' for note in exported.notes)])


def report_onnx(onnx: OnnxReport) -> list[str]:
    number = 'any number of images' if 'batch' in onnx.dynamic else 'one image'
    size = 'of any size' if 'height' in onnx.dynamic else f'of {onnx.size[0]} x {onnx.size[1]} (height x width)'
    limit = f'; more cannot be exported: {onnx.limit}' if onnx.limit else ''
    lines = [
        f'ONNX: images ({number} {size}{limit}) -> {", ".join(onnx.outputs)}',
        f'greatest relative difference between ONNX and PyTorch: {onnx.difference:.1e}',
    ]
    if onnx.detections is not None:
        lines.append(report_detections(onnx.detections))
    return lines


def report_detections(seen: Agreement) -> str:
    if not seen.number:
        return 'neither finds anything in the images of the comparison'
    return (
        f'{seen.same} of {seen.number} detections are the same, '
        f'boxes to {seen.boxes:.1e} pixels, scores to {seen.scores:.1e}'
    )


def report_int8(int8: Int8Report) -> str:
    share = 100 * int8.int8_bytes / int8.float_bytes
    origin = f'calibrated on {int8.images} images' if int8.images else 'with the scales of the run'
    return (
        f'INT8: {int8.layers} layers {origin}, {int8.left} stay float; '
        f'{int8.int8_bytes / 1e6:.2f} MB of {int8.float_bytes / 1e6:.2f} MB ({share:.0f} %)'
    )

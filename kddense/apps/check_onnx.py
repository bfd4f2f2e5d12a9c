"""Run ONNX files in OpenVINO beside onnxruntime: does it know all operators, and does it find the same?

    python tools/check_onnx.py exported/my_detector.onnx --images data/my_images --shape 480 640

Needs OpenVINO, of which nothing else here knows (pip install openvino). Prints for each file its operators and how far its
outputs are from onnxruntime's; ends with status 1 if a file is refused.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kddense.apps.command_line import check_json, count, in_one_sentence, new_parser, write_json
from kddense.errors import ConfigError
from kddense.export.agreement import Agreement, detections_in, relative
from kddense.export.images import image_files, read_images
from kddense.export.onnx import require_onnx
from kddense.export.onnx_file import OnnxFile


@in_one_sentence()
def main(argv: Sequence[str] | None = None) -> None:
    """Check files, and print what came out.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parse_args(argv)
    check_json(args.json)
    require_onnx()
    files = image_files(args.images, most=args.most)
    records = [check(file, files, tuple(args.shape)) for file in args.files]
    for record in records:
        print(_told(record))
    if args.json:
        versions = {name: metadata.version(name) for name in ('onnx', 'onnxruntime', 'openvino')}
        write_json(args.json, dict(versions=versions, shape=args.shape, files=records))
    if any(record['refused'] for record in records):
        sys.exit(1)


def check(file: Path, images: Sequence[Path], size: tuple[int, int]) -> dict[str, Any]:
    """Return a file's operators, and how far OpenVINO's outputs are from onnxruntime's.

    Args:
        file: Of ``kddense export --onnx``.
        images: What both are given.
        size: Height and width that these are resized to.
    """
    import onnx

    model = onnx.load(str(file))
    operators = Counter(node.op_type for node in model.graph.node)
    record = dict(file=file.name, operators=dict(sorted(operators.items())), images=len(images), refused='')
    try:
        run = _openvino(file)
    except ConfigError:
        raise
    except Exception as error:  # OpenVINO has errors of its own
        return dict(record, refused=' '.join(str(error).split())[-300:])
    own = OnnxFile(file)
    seen, differences = Agreement(), []
    for image, sizes in read_images(images, size, own.pixels):
        given = (image, sizes) if own.takes_sizes else (image,)
        expected, found = own(*given), run(*given)
        if 'labels' in expected:
            pairs = zip(detections_in(found), detections_in(expected), strict=True)
            seen = sum((Agreement.of(*pair) for pair in pairs), seen)
        elif 'classes' in expected:
            differences.append((found['classes'] != expected['classes']).float().mean().item())
        else:
            differences += [relative(found[name], value) for name, value in expected.items()]
    if seen.number:
        return dict(record, detections=vars(seen))
    return dict(record, difference=max(differences, default=0.0))


def _openvino(file: Path) -> Any:
    """Return a function that runs a file in OpenVINO, in float32."""
    try:
        import openvino
    except ImportError as error:
        raise ConfigError('OpenVINO is not installed here: pip install openvino') from error
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(str(file)), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    names = [output.any_name for output in compiled.outputs]

    def run(*given: Tensor) -> dict[str, Tensor]:
        found = compiled([one.numpy() for one in given])
        return {name: torch.from_numpy(found[index].copy()) for index, name in enumerate(names)}

    return run


def _told(record: dict[str, Any]) -> str:
    if record['refused']:
        return f'{record["file"]}: refused by OpenVINO: {record["refused"]}'
    if 'detections' in record:
        seen = record['detections']
        what = f'{seen["same"]} of {seen["number"]} detections are the same'
        what += f', boxes to {seen["boxes"]:.1e} pixels, scores to {seen["scores"]:.1e}'
    else:
        what = f'differs by {record["difference"]:.1e}'
    return f'{record["file"]}: {len(record["operators"])} operators, all known; {what}'


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('files', nargs='+', type=Path, help='of kddense export --onnx')
    parser.add_argument('--images', type=Path, required=True, help='a folder of images')
    parser.add_argument(
        '--shape', nargs=2, type=count, required=True, metavar=('H', 'W'), help='that they are resized to'
    )
    parser.add_argument('--most', type=count, default=5, help='how many images are looked at')
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    return parser.parse_args(argv)

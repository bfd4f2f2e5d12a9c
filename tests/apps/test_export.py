"""The script: what it prints, what it refuses."""

import re
import subprocess
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / 'tools' / 'export_student.py'


@pytest.fixture(scope='module')
def checkpoint(detector, tmp_path_factory):
    """A checkpoint as a distillation of Faster R-CNN would begin with, its config in its meta."""
    file = tmp_path_factory.mktemp('script') / 'distilled.pth'
    weights = detector.build(detector.plain().model).state_dict()
    torch.save(dict(state_dict=weights, meta=dict(cfg=detector.distilled().pretty_text)), file)
    return file


@pytest.fixture
def export(python):
    def run(*arguments: object) -> subprocess.CompletedProcess:
        command = [python, str(SCRIPT), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_it_says_what_it_wrote(export, checkpoint, tmp_path):
    pytest.importorskip('onnxruntime')
    out = tmp_path / 'new' / 'student.pth'
    done = export(checkpoint, out, '--onnx', '--shape', 64, 96)
    files = [out, out.with_suffix('.py'), out.with_suffix('.onnx')]

    assert done.returncode == 0, done.stderr
    assert all(file.stat().st_size > 1000 for file in files)
    first, onnx, difference, detections = done.stdout.splitlines()
    assert first == f'{checkpoint} is exported to {", ".join(map(str, files))}'
    assert onnx == 'ONNX: images (any number of images of any size) -> boxes, scores, labels'
    assert float(difference.removeprefix('greatest relative difference between ONNX and PyTorch: ')) < 1e-5
    assert re.fullmatch(r'300 of 300 detections are the same, boxes to \S+e-0\d pixels, scores to \S+e-0\d', detections)


@pytest.mark.parametrize(
    'options, message',
    [
        (['--ema'], '{checkpoint} keeps no averaged weights, its run had no EMAHook: leave out --ema'),
        (['--int8'], '--int8 is for the ONNX file: pass --onnx too'),
    ],
)
def test_an_error_is_one_sentence(export, checkpoint, tmp_path, options, message):
    done = export(checkpoint, tmp_path / 'student.pth', *options)

    assert done.returncode == 1
    assert done.stdout == ''
    (error,) = (line for line in done.stderr.splitlines() if line.startswith('error: '))
    assert error == f'error: {message.format(checkpoint=checkpoint)}'
    assert 'Traceback' not in done.stderr
    assert not list(tmp_path.iterdir())

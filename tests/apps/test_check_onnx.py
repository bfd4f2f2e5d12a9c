"""ONNX files in another runtime: what is told of them. OpenVINO itself is not needed here."""

from __future__ import annotations

import json
import sys

import mmcv
import pytest
import torch

from kddense.apps import check_onnx

from ..helpers import tiny

FACTS = dict(mean=[120.0], std=[58.0], bgr_to_rgb=True)


@pytest.fixture
def file(tmp_path):
    """A depth estimator, or what is like one in its inputs and outputs."""
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    helper = onnx.helper
    nodes = [helper.make_node('Sin', ['images'], ['sine']), helper.make_node('Abs', ['sine'], ['depth'])]
    values = [helper.make_tensor_value_info(name, 1, ['n', 3, 'h', 'w']) for name in ('images', 'depth')]
    graph = helper.make_graph(nodes, 'graph', values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, {key: json.dumps(value) for key, value in FACTS.items()})
    onnx.save(model, str(tmp_path / 'depth.onnx'))
    mmcv.imwrite(tiny.image(20, 30).permute(1, 2, 0).numpy(), str(tmp_path / 'images' / 'one.png'))
    return tmp_path / 'depth.onnx'


def run(file, *more):
    images = str(file.parent / 'images')
    check_onnx.main([str(file), '--images', images, '--shape', '16', '24', *map(str, more)])


@pytest.mark.parametrize('factor, said', [(1.0, 'differs by 0.0e+00'), (1.5, 'differs by 5.0e-01')])
def test_operators_and_difference(file, monkeypatch, capsys, factor, said):
    own = check_onnx.OnnxFile(file)
    other = lambda *given: {name: value * factor for name, value in own(*given).items()}  # noqa: E731
    monkeypatch.setattr(check_onnx, '_openvino', lambda _: other)
    run(file)
    assert capsys.readouterr().out == f'depth.onnx: 2 operators, all known; {said}\n'
    record = check_onnx.check(file, [file.parent / 'images' / 'one.png'], (16, 24))
    assert record['operators'] == {'Abs': 1, 'Sin': 1}


def test_a_file_that_is_refused(file, monkeypatch, capsys):
    def refuse(_):
        raise RuntimeError('no operator\n  Sin')

    monkeypatch.setattr(check_onnx, '_openvino', refuse)
    with pytest.raises(SystemExit) as ended:
        run(file)
    assert ended.value.code == 1
    assert capsys.readouterr().out == 'depth.onnx: refused by OpenVINO: no operator Sin\n'


def test_detections_are_counted(file, monkeypatch):
    found = dict(
        boxes=torch.tensor([[[0.0, 0, 5, 5], [0, 0, 0, 0]]]),
        scores=torch.tensor([[0.5, 0.0]]),
        labels=torch.tensor([[1, -1]]),
    )
    monkeypatch.setattr(check_onnx, '_openvino', lambda _: lambda *given: found)
    monkeypatch.setattr(check_onnx.OnnxFile, '__call__', lambda self, *given: found)
    record = check_onnx.check(file, [file.parent / 'images' / 'one.png'], (16, 24))
    assert record['detections'] == dict(number=1, same=1, boxes=0.0, scores=0.0)


def test_without_openvino(file, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with pytest.raises(SystemExit, match='^error: OpenVINO is not installed here: pip install openvino$'):
        run(file)

"""The file in 8 bits: which layers it computes in 8 bits, and how near its outputs are."""

from __future__ import annotations

import mmcv
import pytest
import torch

from kddense.export import export_student
from kddense.export.int8 import predicting_layers

from ..helpers import tiny
from ..helpers.export_runs import files_in


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Ten smooth images."""
    folder = tmp_path_factory.mktemp('images')
    for seed in range(10):
        mmcv.imwrite(tiny.image(96, 128, seed).permute(1, 2, 0).numpy(), str(folder / f'{seed}.png'))
    return folder


def outputs_of(file, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(None, {'images': images.numpy()})), strict=True))


def quantised_in(graph):
    """Return the names of the layers whose weights are in 8 bits."""
    weights = {node.output[0] for node in graph.node if node.op_type == 'DequantizeLinear'}
    return {node.name for node in graph.node if node.op_type in ('Conv', 'Gemm') and node.input[1] in weights}


def layers_in(graph):
    return {node.name for node in graph.node if node.op_type in ('Conv', 'Gemm')}


class TestInt8:
    def test_a_segmentor(self, segmentor_run, folder, tmp_path):
        onnx = pytest.importorskip('onnx')
        done = export_student(
            segmentor_run.folder, tmp_path / 'one.pth', onnx=True, int8=True, outputs='raw', images=folder
        )
        assert [file.name for file in done.files] == ['one.pth', 'one.py', 'one.onnx', 'one.int8.onnx']
        assert set(files_in(tmp_path)) == {'one.pth', 'one.py', 'one.onnx', 'one.int8.onnx'}
        assert done.int8.images == 10
        assert (done.int8.float_bytes, done.int8.int8_bytes) == tuple(file.stat().st_size for file in done.files[2:])

        models = [onnx.load(str(file)) for file in done.files[2:]]
        assert [[item.key for item in model.metadata_props] for model in models] == [
            ['mean', 'std', 'bgr_to_rgb', 'size_divisor', 'classes']
        ] * 2
        float_graph, graph = (model.graph for model in models)
        left = layers_in(float_graph) - quantised_in(graph)
        assert left == {'/conv_seg/Conv'}
        assert done.int8.layers == len(quantised_in(graph)) > 10
        assert done.int8.left == 1
        random = torch.stack([tiny.image(96, 128, seed).float() for seed in range(3)])
        images = (random - random.mean()) / random.std()
        float_logits, logits = (outputs_of(file, images)['logits'] for file in done.files[2:])
        assert not torch.equal(float_logits, logits)
        assert (float_logits - logits).abs().mean() < 0.1 * float_logits.std()

    def test_a_detector(self, detector_run, folder, tmp_path):
        """The heads on proposals and on regions predict in float, and nothing behind them has a scale."""
        onnx = pytest.importorskip('onnx')
        options = dict(onnx=True, int8=True, images=folder, shape=(96, 128), padded=True)
        done = export_student(detector_run.folder, tmp_path / 'one.pth', **options)
        graph = onnx.load(str(done.files[3])).graph
        left = layers_in(graph) - quantised_in(graph)
        assert {name.split('/')[-2].rstrip('_1234') for name in left} == {'rpn_cls', 'rpn_reg', 'fc_cls', 'fc_reg'}
        behind = [node.name for node in graph.node if node.op_type == 'QuantizeLinear' and node.name.count('/') < 3]
        assert not [name for name in behind if 'RoiAlign' not in name and 'images' not in name]
        assert [value.name for value in graph.input] == ['images', 'sizes']
        assert [value.name for value in graph.output] == ['boxes', 'scores', 'labels']


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        'options, message',
        [
            (dict(int8=True), '--int8 is for the ONNX file: pass --onnx too'),
            (dict(images='.'), '--images is for the ONNX file: pass --onnx too'),
            (dict(outputs='raw'), '--outputs is for the ONNX file: pass --onnx too'),
            (dict(padded=True), '--padded is for the ONNX file: pass --onnx too'),
            (
                dict(onnx=True, int8=True),
                r'--int8: \S+ holds no scales: pass --images FOLDER, with images to calibrate them on',
            ),
            (dict(onnx=True, int8=True, images='none'), '--images: there is no folder none'),
        ],
    )
    def test_options_that_do_not_fit(self, segmentor_run, tmp_path, options, message):
        with pytest.raises((ValueError, FileNotFoundError), match=f'^{message}$'):
            export_student(segmentor_run.folder, tmp_path / 'student.pth', **options)
        assert not list(tmp_path.iterdir())

    def test_a_file_that_onnxruntime_cannot_run(self, segmentor_run, folder, tmp_path, monkeypatch):
        pytest.importorskip('onnxruntime')
        monkeypatch.setattr('kddense.export.student.quantise_onnx', lambda _, file, images: file.write_bytes(b'torn'))
        with pytest.raises(RuntimeError, match=r'^--int8: onnxruntime cannot run the file: '):
            export_student(segmentor_run.folder, tmp_path / 'one.pth', onnx=True, int8=True, images=folder)
        assert not list(tmp_path.iterdir())

    def test_an_image_that_cannot_be_read(self, segmentor_run, tmp_path):
        pytest.importorskip('onnxruntime')
        (tmp_path / 'images').mkdir()
        (tmp_path / 'images' / 'torn.jpg').write_bytes(b'no image')
        with pytest.raises(ValueError, match=r'^--images: .*torn\.jpg cannot be read as an image'):
            export_student(segmentor_run.folder, tmp_path / 'one.pth', onnx=True, int8=True, images=tmp_path / 'images')
        assert [path.name for path in tmp_path.iterdir()] == ['images']


def test_what_predicts_is_what_no_layer_follows():
    """Two convolutions before a suppression, one before an output, and what is before those."""
    helper = pytest.importorskip('onnx').helper

    def node(kind, inputs, output):
        return helper.make_node(kind, inputs, [output], name=f'/module/{output}/{kind}')

    nodes = [
        node('Conv', ['images', 'w'], 'trunk'),
        node('Conv', ['trunk', 'w'], 'cls'),
        node('Conv', ['trunk', 'w'], 'reg'),
        node('Sigmoid', ['cls'], 'scores'),
        node('NonMaxSuppression', ['reg', 'scores', 'most'], 'kept'),
        node('Gemm', ['kept', 'w'], 'hidden'),
        node('Relu', ['hidden'], 'active'),
        node('Gemm', ['active', 'w'], 'last'),
        node('MatMul', ['last', 'last'], 'attended'),  # no weights
        node('Softmax', ['attended'], 'out'),
    ]
    value = helper.make_tensor_value_info('out', 1, None)
    weight = helper.make_tensor('w', 1, [1], [1.0])
    graph = helper.make_graph(nodes, 'graph', [], [value], [weight])
    assert predicting_layers(graph) == {'/module/cls/Conv', '/module/reg/Conv', '/module/last/Gemm'}

"""OpenVINO takes the file of every family, and finds the same as onnxruntime. Neither is installed on Python 3.10."""

from __future__ import annotations

import mmcv
import pytest
import torch

from kddense.apps.check_onnx import check
from kddense.exchange import ImageFormat
from kddense.export.images import image_files, read_images
from kddense.export.int8 import quantise_onnx
from kddense.export.onnx import OnnxOptions, write_onnx
from kddense.quantisation import MinMaxQuantiser

from ..helpers import detectors, stock_models, tiny
from ..helpers.depth_estimators import depth_estimator
from ..helpers.learned_scales import Layers, learned

pytest.importorskip('openvino')
SIZE = (96, 128)
SEGMENTORS = {
    'pspnet': lambda: tiny.segmentor('pspnet_r50-d8'),
    'deeplabv3': lambda: tiny.segmentor('deeplabv3_r50-d8'),
    'segformer': lambda: stock_models.small_model(
        'mmseg::segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py', 4
    ),
    'depth': depth_estimator,
}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    for seed in range(3):
        mmcv.imwrite(tiny.image(*SIZE, seed).permute(1, 2, 0).numpy(), str(folder / f'{seed}.png'))
    return image_files(folder)


@pytest.mark.parametrize('family', detectors.FAMILIES)
def test_detections(family, images, tmp_path):
    model = detectors.outspoken(detectors.FAMILIES[family]())
    write_onnx(model, tmp_path / 'one.onnx', OnnxOptions(SIZE, padded=True), {})
    record = check(tmp_path / 'one.onnx', images, SIZE)
    assert record['refused'] == ''
    found = record['detections']
    assert found['number'] > 0
    assert found['same'] >= 0.99 * found['number']


@pytest.mark.parametrize('family', SEGMENTORS)
@pytest.mark.parametrize('outputs', ['results', 'raw'])
def test_maps(family, outputs, images, tmp_path):
    model = tiny.build(SEGMENTORS[family](), scope='mmseg').eval()
    tiny.shake(model)
    write_onnx(model, tmp_path / 'one.onnx', OnnxOptions(SIZE, outputs), {})
    record = check(tmp_path / 'one.onnx', images, SIZE)
    assert record['refused'] == ''
    assert record['difference'] < 1e-3


@torch.no_grad()
@pytest.mark.parametrize('family', ['fcos', 'faster_rcnn', 'pspnet', 'depth'])
def test_the_operators_of_8_bits(family, images, tmp_path):
    if family in SEGMENTORS:
        model = tiny.build(SEGMENTORS[family](), scope='mmseg').eval()
    else:
        model = detectors.outspoken(detectors.FAMILIES[family]())
    write_onnx(model, tmp_path / 'one.onnx', OnnxOptions(SIZE), {})
    pixels = ImageFormat.of(model.data_preprocessor)
    quantise_onnx(tmp_path / 'one.onnx', tmp_path / 'one.int8.onnx', read_images(images, SIZE, pixels))
    record = check(tmp_path / 'one.int8.onnx', images, SIZE)
    assert record['refused'] == ''
    assert record['operators']['QuantizeLinear'] > 10


@pytest.mark.parametrize('activations', ['affine', 'symmetric'])
def test_a_file_of_learned_scales(activations, images, tmp_path):
    """Biases in the steps of the products, layers in groups, transposed and on rows."""
    learned(Layers().eval(), 'features', tmp_path, activations=MinMaxQuantiser(mode=activations), ends='quantised')
    record = check(tmp_path / 'one.int8.onnx', images, SIZE)
    assert record['refused'] == ''
    assert record['operators']['DequantizeLinear'] > record['operators']['QuantizeLinear'] > 4

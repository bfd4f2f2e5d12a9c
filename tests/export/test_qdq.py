"""The file in 8 bits computes what the student computes whose run learned the scales."""

from __future__ import annotations

import pytest
import torch
from mmengine.model import ImgDataPreprocessor
from torch import nn

from kddense.export.onnx import OnnxOptions, write_onnx
from kddense.export.onnx_file import OnnxFile
from kddense.export.qdq import check_scales, write_learned
from kddense.quantisation import MinMaxQuantiser, UniformQuantiser, scales_of
from kddense.quantisation.scales import KEY
from kddense.quantisation.student import QuantisedStudent

from ..helpers import detectors, tiny

SIZE = (64, 96)
IMAGES = torch.stack([(tiny.image(*SIZE, seed=seed).float() - 120) / 58 for seed in range(4)])


class Layers(nn.Module):
    """One layer of each kind: with a norm, in groups, used twice, transposed, on rows."""

    def __init__(self):
        super().__init__()
        self.data_preprocessor = ImgDataPreprocessor()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.groups = nn.Sequential(nn.Conv2d(8, 8, 3, groups=2), nn.BatchNorm2d(8), nn.ReLU())
        self.twice = nn.Conv2d(8, 8, 1, bias=False)
        self.wider = nn.ConvTranspose2d(8, 4, 2, 2)
        self.rows = nn.Linear(4, 5)

    def extract_feat(self, images):
        maps = self.groups(self.first(images))
        wide = self.wider(self.twice(self.twice(maps).relu()))
        return [self.rows(wide.permute(0, 2, 3, 1))]


def learned(student, outputs, folder, fold_norms=True, ends='float', **options):
    """Return a student as files in float and in 8 bits, the student that computes with few bits, and the report."""
    pytest.importorskip('onnxruntime')
    tiny.shake(student)
    weights = {name: value.clone() for name, value in student.state_dict().items()}
    float_file, file = folder / 'one.onnx', folder / 'one.int8.onnx'
    write_onnx(student, float_file, OnnxOptions(SIZE, outputs), {})

    quantisers = UniformQuantiser(bits=8, **options), MinMaxQuantiser(bits=8)
    quantised = QuantisedStudent(student, *quantisers, ends=ends, fold_norms=fold_norms)
    quantised.attach()
    quantised.begin_step(0)
    with torch.no_grad():
        forward(student)
    quantised.end_step()
    quantised.train(False)
    scales = scales_of({KEY: quantised.state(), 'state_dict': weights})
    report = write_learned(float_file, file, scales, weights)
    return OnnxFile(float_file), OnnxFile(file), student, report


def forward(student):
    if hasattr(student, 'encode_decode'):
        return student.encode_decode(IMAGES, [dict(img_shape=SIZE)] * len(IMAGES))
    return student.extract_feat(IMAGES)[0]


@torch.no_grad()
@pytest.mark.parametrize(
    'options', [dict(), dict(fold_norms=False), dict(mode='affine')], ids=['folded', 'unfolded', 'affine']
)
def test_every_kind_of_layer_computes_what_its_run_did(tmp_path, options):
    float_file, file, student, report = learned(Layers().eval(), 'features', tmp_path, ends='quantised', **options)
    found, expected, without = file(IMAGES)['level_0'], forward(student), float_file(IMAGES)['level_0']
    rounding = (expected - without).abs().mean()
    assert rounding > 0
    assert (found - expected).abs().mean() < 0.1 * rounding  # a value between two steps may fall to either
    assert (report.layers, report.left, report.images) == (6, 0, 0)  # the layer that is used twice counts twice


@torch.no_grad()
def test_a_segmentor_computes_what_its_run_did(tmp_path):
    """Values between two steps add up over the layers, to less than half of what rounding changes."""
    student = tiny.build(tiny.segmentor('pspnet_r50-d8', {'auxiliary_head': None}), scope='mmseg').eval()
    float_file, file, student, report = learned(student, 'raw', tmp_path)
    found, expected, without = file(IMAGES)['logits'], forward(student), float_file(IMAGES)['logits']
    assert (found - expected).abs().mean() < 0.5 * (expected - without).abs().mean()
    assert report.layers > 20
    assert report.left == 2  # the first and the last
    assert report.int8_bytes < 0.6 * report.float_bytes


def scales(**changes):
    student = tiny.build(tiny.segmentor('pspnet_r50-d8'), scope='mmseg').eval()
    quantised = QuantisedStudent(student, UniformQuantiser(bits=4), MinMaxQuantiser(**changes), fold_norms=True)
    quantised.attach()
    quantised.begin_step(0)
    with torch.no_grad():
        forward(student)
    quantised.end_step()
    return scales_of({KEY: quantised.state(), 'state_dict': student.state_dict()})


def test_weights_of_few_bits_are_whole_numbers_too():
    check_scales(scales(bits=8))


def test_activations_of_few_bits_are_refused():
    with pytest.raises(
        RuntimeError, match=r'^--int8: the input of backbone\S+ has 16 steps, not those of 8 bits: train'
    ):
        check_scales(scales(bits=4))


def test_weights_without_steps_are_refused():
    own = {path: layer._replace(weight=None) for path, layer in scales(bits=8).items()}
    with pytest.raises(RuntimeError, match=r'^--int8: the weight of backbone\S+ has no even steps, which ONNX needs'):
        check_scales(own)


def test_scales_of_another_student(tmp_path):
    pytest.importorskip('onnxruntime')
    student = tiny.build(detectors.one_stage('fcos'), seed=3).eval()
    write_onnx(student, tmp_path / 'other.onnx', OnnxOptions(SIZE, 'features'), {})
    other = tiny.build(tiny.segmentor('pspnet_r50-d8'), scope='mmseg').state_dict()
    with pytest.raises(RuntimeError, match='^--int8: none of the [0-9]+ layers with scales is in other.onnx$'):
        write_learned(tmp_path / 'other.onnx', tmp_path / 'one.onnx', scales(bits=8), other)

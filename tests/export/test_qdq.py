"""The file in 8 bits computes what the student computes whose run learned the scales."""

from __future__ import annotations

import pytest
import torch

from kddense.export.onnx import OnnxOptions, write_onnx
from kddense.export.onnx_file import OnnxFile
from kddense.export.qdq import check_scales, write_learned
from kddense.quantisation import (
    LSQActivationQuantiser,
    LSQQuantiser,
    MinMaxQuantiser,
    TernaryQuantiser,
    UniformQuantiser,
    WRPNQuantiser,
    scales_of,
)
from kddense.quantisation.scales import KEY
from kddense.quantisation.student import QuantisedStudent

from ..helpers import detectors, tiny
from ..helpers.learned_scales import IMAGES, SIZE, Layers, forward, learned
from ..helpers.processors import needs_vnni


def outputs_of(made, name):
    """Return the outputs of both files, and what the student computes."""
    return OnnxFile(made.file)(IMAGES)[name], forward(made.student), OnnxFile(made.float_file)(IMAGES)[name]


OPTIONS = {
    'folded': dict,
    'unfolded': lambda: dict(fold_norms=False),
    'affine': lambda: dict(weights=UniformQuantiser(8, 'affine')),
    'wrpn': lambda: dict(weights=WRPNQuantiser(8)),
    'ternary': lambda: dict(weights=TernaryQuantiser()),
    'learned steps': lambda: dict(weights=LSQQuantiser(8), activations=LSQActivationQuantiser(8)),
    'symmetric': lambda: dict(activations=MinMaxQuantiser(mode='symmetric')),
}
OVERFLOW = ('folded', 'unfolded', 'symmetric')


@torch.no_grad()
@pytest.mark.parametrize(
    'options', [pytest.param(name, marks=needs_vnni) if name in OVERFLOW else name for name in OPTIONS]
)
def test_every_kind_of_layer_computes_what_its_run_did(tmp_path, options):
    made = learned(Layers().eval(), 'features', tmp_path, ends='quantised', **OPTIONS[options]())
    found, expected, without = outputs_of(made, 'level_0')
    rounding = (expected - without).abs().mean()
    assert rounding > 0
    assert (found - expected).abs().mean() < 0.1 * rounding  # a value between two steps may fall to either
    # The layer that is used twice counts twice.
    assert (made.report.layers, made.report.left, made.report.images) == (6, 0, 0)


def test_an_observer_that_saw_nothing_of_a_layer_in_the_file_is_refused(tmp_path):
    made = learned(Layers().eval(), 'features', tmp_path, ends='quantised')
    made.file.unlink()
    scales = {**made.scales, 'twice': made.scales['twice']._replace(input=None)}
    with pytest.raises(RuntimeError, match='^--int8: the observer of the layer twice saw nothing: train, or calibrate'):
        write_learned(made.float_file, made.file, scales, made.weights)
    assert not made.file.exists()
    elsewhere = {**made.scales, 'auxiliary_head.conv': scales['twice']}  # such as a head that predicts nothing
    weights = {**made.weights, 'auxiliary_head.conv.weight': made.weights['twice.weight'] + 1}
    assert write_learned(made.float_file, made.file, elsewhere, weights).layers == 6


@torch.no_grad()
def test_a_segmentor_computes_what_its_run_did(tmp_path):
    """Values between two steps add up over the layers, to less than half of what rounding changes."""
    student = tiny.build(tiny.segmentor('pspnet_r50-d8', {'auxiliary_head': None}), scope='mmseg').eval()
    made = learned(student, 'raw', tmp_path)
    found, expected, without = outputs_of(made, 'logits')
    assert (found - expected).abs().mean() < 0.5 * (expected - without).abs().mean()
    assert made.report.layers > 20
    assert made.report.left == 2  # the first and the last
    assert made.report.int8_bytes < 0.6 * made.report.float_bytes


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
    with pytest.raises(
        RuntimeError, match=r'^--int8: the weight of backbone\S+ has buckets or points, not the even steps'
    ):
        check_scales(own)


def test_scales_of_another_student(tmp_path):
    pytest.importorskip('onnxruntime')
    student = tiny.build(detectors.one_stage('fcos'), seed=3).eval()
    write_onnx(student, tmp_path / 'other.onnx', OnnxOptions(SIZE, 'features'), {})
    other = tiny.build(tiny.segmentor('pspnet_r50-d8'), scope='mmseg').state_dict()
    with pytest.raises(RuntimeError, match='^--int8: none of the [0-9]+ layers with scales is in other.onnx$'):
        write_learned(tmp_path / 'other.onnx', tmp_path / 'one.onnx', scales(bits=8), other)

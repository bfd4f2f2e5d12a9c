"""Attention transfer on backbones and pyramids: groups by resolution, networks of other widths."""

import pytest
import torch

from kddense.losses import attention_distance
from kddense.objectives.at.activation import same_resolutions
from kddense.taps import tensors_of

from ...helpers import detectors, plugins, tiny


def build(student, teacher, scope='mmdet', **options):
    return tiny.distiller(student, teacher, dict(at=dict(type='kddense.ATObjective', **options)), scope)


def maps(*sizes):
    return [torch.zeros(1, 2, size, size) for size in sizes]


@pytest.mark.parametrize(
    'ours, theirs, expected',
    [
        ((16, 8, 4, 2), (16, 8, 4, 2), ([0, 1, 2, 3], [0, 1, 2, 3])),
        ((16, 8, 8, 8), (16, 8, 4, 2), ([0, 3], [0, 1])),  # a dilated student
        ((16, 8), (32, 32, 16, 16, 4), ([0], [3])),
        ((8, 4), (16, 12), ([0, 1], [0, 1])),  # a teacher of larger images
        ((8, 4), (16, 12, 6), (None, None)),
    ],
)
def test_groups_are_of_one_resolution(ours, theirs, expected):
    assert same_resolutions(maps(*ours), maps(*theirs)) == expected


@pytest.mark.parametrize('mode', ['code', 'paper'])
def test_the_loss_is_the_sum_over_groups(mode):
    model = build(
        tiny.segmentor('pspnet_r50-d8'), tiny.segmentor('pspnet_r50-d8', width=16), 'mmseg', mode=mode, weight=1
    )
    assert not list(model.objectives.parameters())
    heard = []
    model.objectives['at'].register_forward_pre_hook(lambda module, args: heard.extend(args))
    value = tiny.step(model, tiny.segmentation_data())['distill.at.loss']
    ours, theirs = (list(tensors_of(answer.taps['backbone'])) for answer in heard)
    expected = sum(attention_distance(ours[level], theirs[level], mode=mode) for level in (0, 3))
    torch.testing.assert_close(value, expected)


def test_levels_that_are_named_are_all_compared():
    model = build(tiny.segmentor('pspnet_r50-d8'), tiny.segmentor('pspnet_r50-d8', width=16), 'mmseg', levels=[1, 2, 3])
    assert model.objectives['at'].levels == [1, 2, 3]
    assert model.objectives['at'].schedule(0) == 1000


def test_it_reaches_the_student_through_a_pyramid_of_another_width():
    model = build(detectors.one_stage('fcos'), detectors.one_stage('fcos', width=16, fpn=24), tap='neck')
    found = plugins.gradients(model, tiny.detection_data())
    assert 'backbone.layer1.0.conv1.weight' in found
    plugins.assert_contracts(model, detectors.one_stage('fcos'))

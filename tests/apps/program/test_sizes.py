"""Models between two: widths on a logarithmic scale, depths that the backbone has, and what cannot lie between."""

from __future__ import annotations

import pytest

from kddense.apps.program.sizes import between, resized
from kddense.registry import MODELS

from ...helpers import tiny

WIDE, NARROW = tiny.segmentor('pspnet_r50-d8', width=32), tiny.segmentor('pspnet_r50-d8', width=8)


def test_the_middle_is_the_geometric_one_and_builds():
    found = between(WIDE, NARROW, 0.5, 'width')
    assert found['backbone']['base_channels'] == 16
    assert found['decode_head']['in_channels'] == 128
    model = tiny.build(found, scope='mmseg')
    count = [sum(one.numel() for one in tiny.build(each, scope='mmseg').parameters()) for each in (WIDE, found, NARROW)]
    assert count == sorted(count, reverse=True)
    assert len(set(count)) == 3
    assert type(model) is MODELS.get('mmseg.EncoderDecoder')


@pytest.mark.parametrize('at, expected', [(0, 32), (1, 8), (0.25, 24), (0.75, 12)])
def test_a_place_between_the_ends(at, expected):
    assert between(WIDE, NARROW, at, 'width')['backbone']['base_channels'] == expected


@pytest.mark.parametrize('at', [0.2, 0.5, 0.7])
def test_what_reads_a_stage_fits_it_wherever_the_model_lies(at):
    narrow = tiny.edit(NARROW, {'decode_head.channels': 24, 'auxiliary_head.channels': 12})
    found = between(narrow, WIDE, at, 'width')
    assert found['decode_head']['in_channels'] == 8 * found['backbone']['base_channels']
    tiny.build(found, scope='mmseg')


def test_depths_are_those_that_there_are():
    deep = tiny.edit(NARROW, {'backbone.depth': 101})
    assert between(deep, NARROW, 0.5, 'depth')['backbone']['depth'] == 50
    assert between(deep, NARROW, 0.9, 'both')['backbone']['depth'] == 34
    assert between(deep, WIDE, 0.5, 'depth')['backbone']['base_channels'] == 8


def test_what_is_not_a_size_is_the_first_ones():
    other = tiny.edit(NARROW, {'decode_head.loss_decode.loss_weight': 0.25})
    assert between(WIDE, other, 0.5, 'width')['decode_head']['loss_decode']['loss_weight'] == 1.0


@pytest.mark.parametrize(
    'written, sentence',
    [
        (dict(between=['a.py', 'b.py'], at=2), 'student.at must be a number from 0 to 1, got 2'),
        (dict(between=['a.py', 'b.py'], by='size'), "student.by must be 'width', 'depth' or 'both', got 'size'"),
        (dict(betwen=['a.py', 'b.py']), "student has no key 'betwen'"),
        ('a.py', "student: there is no file 'a.py'"),
    ],
)
def test_bad_sizes_are_one_sentence(written, sentence):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        resized(written, 'student')
    assert sentence in str(error.value)


def test_two_architectures_have_nothing_between():
    with pytest.raises(ValueError, match='decode_head is a PSPHead in the one and a FCNHead in the other'):
        between(WIDE, tiny.edit(NARROW, {'decode_head.type': 'FCNHead'}), 0.5, 'width')
    with pytest.raises(ValueError, match='the two models do not differ in width'):
        between(WIDE, WIDE, 0.5, 'width')

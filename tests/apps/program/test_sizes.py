"""Models between two: widths on a logarithmic scale, depths that the backbone has, and what cannot lie between."""

from __future__ import annotations

import copy

import pytest
from mmengine.config import Config

from kddense.apps.program.sizes import between, resized
from kddense.errors import ConfigError
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


@pytest.mark.parametrize(
    'key, one, other, by, shown',
    [
        (
            'neck.in_channels',
            [8, 16, 32],
            [8, 16, 32, 64],
            'width',
            '[8, 16, 32] in the one and [8, 16, 32, 64] in the other',
        ),
        ('neck.in_channels', [8, 16], 8, 'width', '[8, 16] in the one and 8 in the other'),
        ('neck.out_channels', 8, None, 'width', '8 in the one and None in the other'),
        ('neck.out_channels', 8, 0, 'width', '8 in the one and 0 in the other'),
        ('backbone.depths', [2, 2], [2, 2, 6], 'depth', '[2, 2] in the one and [2, 2, 6] in the other'),
        ('backbone.depth', 'small', 'large', 'both', "'small' in the one and 'large' in the other"),
    ],
)
def test_sizes_of_two_structures_have_nothing_between(key, one, other, by, shown):
    part, name = key.split('.')
    with pytest.raises(ConfigError) as error:
        between({part: {name: one}}, {part: {name: other}}, 0.5, by, 'links.a.student')
    assert str(error.value).startswith(f'links.a.student.between: {key} is {shown}: there is nothing between')


def written(folder, scope='mmseg', **models):
    """Write configs, and return their paths."""
    for name, model in models.items():
        Config(dict(default_scope=scope, model=model)).dump(folder / f'{name}.py')
    return [str(folder / f'{name}.py') for name in models]


def without(config, *keys):
    config = copy.deepcopy(config)
    for key in keys:
        part, name = key.split('.')
        config[part].pop(name)
    return config


@pytest.mark.parametrize('at', [0.5, 0.75])
@pytest.mark.parametrize('silent', ['wide', 'narrow'])
def test_a_size_that_one_config_leaves_to_its_class_counts(silent, at, tmp_path):
    """mmseg's own configs do not write the 64 base channels of a ResNet."""
    wide, narrow = tiny.segmentor('pspnet_r50-d8', width=64), NARROW
    expected = between(wide, narrow, at, 'width')
    shorter = without(wide, 'backbone.base_channels')
    models = dict(a=shorter, b=narrow) if silent == 'wide' else dict(a=narrow, b=shorter)
    found = resized(dict(between=written(tmp_path, **models), at=at if silent == 'wide' else 1 - at), 'student')
    assert found['backbone']['base_channels'] == expected['backbone']['base_channels'] < 64
    assert found['decode_head']['in_channels'] == expected['decode_head']['in_channels']
    tiny.build(found, scope='mmseg')


def test_a_size_without_a_default_is_to_be_written_in_both(tmp_path):
    model = tiny.faster_rcnn()
    narrow = tiny.edit(model, {'backbone.stem_channels': 8})
    sentence = 'student.between: backbone.stem_channels is None in the one and 8 in the other: .* write it in both'
    with pytest.raises(ConfigError, match=sentence):
        resized(dict(between=written(tmp_path, a=model, b=narrow, scope='mmdet')), 'student')


def test_lists_of_sizes_have_each_size_between():
    found = between(dict(neck=dict(in_channels=[8, 16])), dict(neck=dict(in_channels=(32, 64))), 0.5, 'width')
    assert found == dict(neck=dict(in_channels=[16, 32]))
    assert between(dict(a=dict(num_convs=0)), dict(a=dict(num_convs=4)), 0.5, 'depth') == dict(a=dict(num_convs=2))


def test_two_architectures_have_nothing_between():
    with pytest.raises(ValueError, match='decode_head is a PSPHead in the one and a FCNHead in the other'):
        between(WIDE, tiny.edit(NARROW, {'decode_head.type': 'FCNHead'}), 0.5, 'width')
    with pytest.raises(ValueError, match='the two models do not differ in width'):
        between(WIDE, WIDE, 0.5, 'width')

"""Where values before a ReLU are heard, in backbones of other kinds than ResNet too, and in heads."""

import copy

import pytest
import torch
from torch import nn

from kddense.objectives.before_relu.places import places_of
from kddense.views import build_view

from ...helpers import segmentors, tiny


def view_of(config, scope='mmseg'):
    return build_view(tiny.build(config, scope=scope), 'student')


def test_a_resnets_stages_end_in_relus():
    view = view_of(tiny.segmentor('pspnet_r50-d8'))
    places = places_of(view, 'backbone')
    assert [place.tap for place in places] == [f'backbone.layer{stage}.1.relu:input:copy' for stage in (1, 2, 3, 4)]
    assert [place.norm for place in places] == [f'backbone.layer{stage}.1.bn2' for stage in (1, 2, 3, 4)]
    assert [place.index for place in places] == [-1] * 4
    taps = view.probe(place.tap for place in places)
    maps = view.probe(['backbone'])['backbone']
    for place, value in zip(places, maps, strict=True):
        assert torch.equal(place.value(taps).relu(), value)


def test_linear_bottlenecks_have_no_relu_behind_them():
    view = view_of(segmentors.mobilenet())
    places = places_of(view, 'backbone')
    assert [place.tap for place in places[:3]] == ['backbone'] * 3
    assert [place.index for place in places[:3]] == [0, 1, 2]
    for stage, place in zip((1, 2, 4), places, strict=False):
        *_, last = view.model.backbone.get_submodule(f'layer{stage + 1}').named_children()
        *_, norm = (path for path, one in last[1].named_modules() if isinstance(one, nn.BatchNorm2d))
        assert place.norm == f'backbone.layer{stage + 1}.{last[0]}.{norm}'


def test_layers_of_a_head():
    (place,) = places_of(view_of(tiny.segmentor('pspnet_r50-d8')), 'decode_head.bottleneck')
    assert place.tap == 'decode_head.bottleneck.activate:input:copy'
    assert place.norm == 'decode_head.bottleneck.bn'


def test_a_pooling_is_refused():
    config = copy.deepcopy(tiny.faster_rcnn(name='vgg'))
    with pytest.raises(
        ValueError, match=r"'backbone' returns what the pooling 'backbone\..*' makes of values behind a ReLU"
    ):
        places_of(view_of(config, 'mmdet'), 'backbone')


def test_transformers_end_without_a_batch_norm():
    places = places_of(view_of(tiny.faster_rcnn(name='swin'), 'mmdet'), 'backbone')
    assert [(place.tap, place.index, place.norm) for place in places] == [('backbone', i, None) for i in range(4)]

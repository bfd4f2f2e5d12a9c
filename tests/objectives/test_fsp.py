"""Flows between stages of a backbone: pairs, pooling, connectors, and stages that are no pair."""

from itertools import pairwise

import pytest
import torch

from kddense.losses import flow_distance, flow_matrix
from kddense.objectives import maps

from ..helpers import plugins, tiny

STUDENT = tiny.segmentor('pspnet_r50-d8')


def build(teacher=None, **options):
    teacher = teacher or tiny.segmentor('pspnet_r50-d8')
    return tiny.distiller(STUDENT, teacher, dict(it=dict(type='kddense.FSPObjective', **options)), 'mmseg')


@pytest.mark.parametrize('stages', [None, [(0, 3), (2, 1)]])
def test_it_is_the_mean_over_pairs_of_stages(stages):
    model = build(stages=stages, weight=1)
    assert not list(model.objectives.parameters()), 'channels agree'
    heard = []
    model.objectives['it'].register_forward_pre_hook(lambda module, args: heard.extend(args))
    value = tiny.step(model, tiny.segmentation_data())['distill.it.loss']
    ours, theirs = (answer.taps['backbone'] for answer in heard)
    pairs = stages or [(0, 1), (1, 2), (2, 3)]
    flows = [(flow_matrix(ours[a], ours[b]), flow_matrix(theirs[a], theirs[b])) for a, b in pairs]
    torch.testing.assert_close(value, sum(flow_distance(*pair) for pair in flows) / len(pairs))


@pytest.mark.parametrize('options', [{}, dict(connector=dict(norm=dict(type='BN'))), dict(connect='teacher')])
def test_what_flows_is_that_of_the_connected_maps(options):
    """A convolution alone is applied to what flows, which makes no difference."""
    model = build(tiny.segmentor('pspnet_r50-d8', width=16), weight=1, **options)
    it = model.objectives['it']
    assert it.connects_flows is (not options)
    heard = []
    it.register_forward_pre_hook(lambda module, args: heard.extend(args))
    value = tiny.step(model, tiny.segmentation_data())['distill.it.loss']
    sides = [list(answer.taps['backbone']) for answer in heard]
    which = sides[options.get('connect') == 'teacher']
    which[:] = [layer.double()(one.double()) for layer, one in zip(it.connectors, which, strict=True)]
    flows = [[flow_matrix(*pair) for pair in pairwise(maps)] for maps in sides]
    distances = [flow_distance(*pair) for pair in zip(*flows, strict=True)]
    torch.testing.assert_close(value.double(), sum(distances) / 3, rtol=1e-4, atol=1e-9)


def test_other_channels_are_connected():
    model = build(tiny.segmentor('pspnet_r50-d8', width=16))
    assert len(list(model.objectives.parameters())) == 8
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, tiny.segmentation_data())
    plugins.assert_contracts(model, STUDENT, 'mmseg', rebuild=lambda: build(tiny.segmentor('pspnet_r50-d8', width=16)))


@pytest.mark.parametrize('hooks, told', [('', True), ("rest=dict(type='kddense.RestHook', parts=dict())", False)])
def test_what_does_not_rest_while_it_trains_alone_is_told(hooks, told, monkeypatch):
    objective = build(alone=True, weight=dict(value=1, stop=0.1)).objectives['it']
    said = []
    monkeypatch.setattr(maps, 'print_log', lambda message, **_: said.append(message))
    objective.check_run(f'default_hooks = dict({hooks})', None)
    assert ("parts={'neck|.*head': dict(stop=0.1)}" in ''.join(said)) is told


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(stages=[(1, 1)]), r'two levels, got \(1, 1\): nothing flows within one'),
        (dict(stages=[(3, -1)]), 'nothing flows within one'),
        (dict(stages=[(0, 4)]), r'pairs of levels in 0\.\.3, got \(0, 4\)'),
        (dict(stages=[(0, 1, 2)]), 'pairs of levels'),
        (dict(stages=[]), 'stages must'),
        (dict(levels=[2]), 'holds one map, and a flow needs two'),
    ],
)
def test_stages_that_are_no_pair_are_named(options, message):
    with pytest.raises(ValueError, match=f'objectives.it.*{message}'):
        build(**options)

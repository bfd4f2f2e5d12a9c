"""FBKD and CanKD: the values of their terms, layers of each level, what is refused."""

import pytest
import torch
from torch.nn import functional as F

from kddense.losses import instance_normalised_distance, spatial_attention

from ..helpers import tiny

STUDENT, TEACHER = tiny.single_stage('retinanet'), tiny.single_stage('retinanet', width=16, fpn=24)
DATA = tiny.detection_data()


def step(config, student=STUDENT, teacher=TEACHER):
    """Run a step of one objective; return the model, its losses, and both necks' levels."""
    model = tiny.distiller(student, teacher, dict(it=config))
    heard = {}
    forward = model.objectives['it'].forward

    def noted(seen, taught):
        heard.update(own=seen.taps['neck'], other=taught.taps['neck'])
        return forward(seen, taught)

    model.objectives['it'].forward = noted
    losses = tiny.step(model, DATA)
    return model, losses, list(zip(heard['own'], heard['other'], strict=True))


def test_terms_of_fbkd():
    config = dict(type='kddense.FBKDObjective', levels=[0, 1], feature=2.0, channel=3.0, spatial=5.0, relation=7.0)
    model, losses, levels = step(config)
    expected = dict.fromkeys(('feature', 'channel', 'spatial', 'relation'), 0.0)
    for layers, (own, other) in zip(model.objectives['it'].connectors, levels[:2], strict=True):
        mask = (spatial_attention(own) + spatial_attention(other)) / 2
        expected['feature'] += (mask * (layers.feature(own) - other) ** 2).sum().sqrt()
        expected['channel'] += (layers.channel(own.mean((2, 3))) - other.mean((2, 3))).norm()
        expected['spatial'] += (layers.spatial(own.mean(1, True)) - other.mean(1, True)).norm()
        expected['relation'] += (layers.relation(own) - other).norm()  # the blocks change nothing at first
    for weight, (name, value) in zip((2, 3, 5, 7), expected.items(), strict=True):
        torch.testing.assert_close(losses[f'distill.it.loss_{name}'], weight * value / 2)


def test_levels_of_fbkd_have_their_own_reductions_and_pools():
    model, *_ = step(dict(type='kddense.FBKDObjective', reductions=[4, 2], pools=[8, 4, 2]))
    blocks = [level.student_relation for level in model.objectives['it'].connectors]
    assert [block.pool for block in blocks] == [8, 4, 2, 2, 2]
    assert [block.theta.out_channels for block in blocks] == [4, 8, 8, 8, 8]
    teachers = [level.teacher_relation for level in model.objectives['it'].connectors]
    assert [block.theta.out_channels for block in teachers] == [6, 12, 12, 12, 12]


def test_cankd_compares_what_looked_at_the_teacher():
    model, losses, levels = step(dict(type='kddense.CanKDObjective'))
    objective = model.objectives['it']
    expected = 0
    for layer, block, (own, other) in zip(objective.connectors, objective.blocks, levels, strict=True):
        assert block.theta.in_channels == 24
        expected += instance_normalised_distance(block(layer(own), other), other) / len(levels)
    torch.testing.assert_close(losses['distill.it.loss'], 10 * expected)
    with torch.no_grad():
        for block in objective.blocks:
            block.out[1].weight.fill_(1.0)
    assert not torch.equal(tiny.step(model, DATA)['distill.it.loss'], losses['distill.it.loss'])


def test_cankd_resizes_maps_of_other_sizes():
    backbone = dict(type='kddense.CanKDObjective', tap='backbone', levels=[0, 1], teacher_levels=[1, 2])
    model = tiny.distiller(STUDENT, TEACHER, dict(it=backbone))
    assert tiny.step(model, DATA)['distill.it.loss'].isfinite()
    # A map of one place has no deviation.
    assert instance_normalised_distance(torch.ones(2, 4, 1, 1), F.relu(torch.ones(2, 4, 1, 1))) == 0


@pytest.mark.parametrize(
    'config, sentence',
    [
        (dict(type='kddense.FBKDObjective', channel=-1), 'channel must be a number that is at least 0, got -1'),
        (dict(type='kddense.FBKDObjective', pools=[]), 'pools must be a list of whole numbers, and not empty, got '),
        (dict(type='kddense.FBKDObjective', pools=[0]), 'pool must be at least 1, got 0'),
        (dict(type='kddense.CanKDObjective', reduction=0), 'reduction must be at least 1, got 0'),
    ],
)
def test_bad_options_are_refused(config, sentence):
    with pytest.raises(ValueError, match=f'^objectives.it.{sentence}'):
        tiny.distiller(STUDENT, TEACHER, dict(it=config))

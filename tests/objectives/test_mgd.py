"""MGD: what is generated, by which random numbers, what is refused."""

import pytest
import torch
from mmengine.logging import MessageHub

from kddense.losses import generation_distance, without_places
from kddense.objectives._shared_numbers import SharedNumbers

from ..helpers import tiny

STUDENT, TEACHER = tiny.single_stage('retinanet'), tiny.single_stage('retinanet', width=16, fpn=24)
DATA = tiny.detection_data()


def build(student=STUDENT, teacher=TEACHER, **options):
    return tiny.distiller(student, teacher, dict(mgd=dict(type='kddense.MGDObjective', **options)))


def at(iteration):
    """Tell what a runner would."""
    MessageHub.get_current_instance().update_info_dict(dict(iter=iteration, max_iters=10, seed=1))


def test_the_teachers_map_is_generated_from_what_is_left():
    at(3)
    model = build(levels=[0, 2], masked=0.4, weight=2.0)
    objective, heard = model.objectives['mgd'], []
    handle = objective.register_forward_pre_hook(lambda module, inputs: heard.append(inputs))
    losses = tiny.step(model, DATA)
    handle.remove()
    ((seen, taught),) = heard
    numbers, expected = SharedNumbers(), 0
    layers = zip(objective.connectors, objective.generators, (0, 2), strict=True)
    for connector, generator, level in layers:
        own, other = connector(seen.taps['neck'][level]), taught.taps['neck'][level]
        drawn = numbers.draw((2, 1, *own.shape[2:]), own)
        assert 0 < (drawn < 0.4).float().mean() < 1
        expected += generation_distance(generator(without_places(own, drawn, 0.4)), other) / 2
    torch.testing.assert_close(losses['distill.mgd.loss'], 2 * expected)


def test_a_step_that_is_taken_again_masks_the_same_places():
    model = build(tiny.single_stage('fcos'), TEACHER, masked=0.5)
    before = torch.get_rng_state()
    values = []
    for iteration in (3, 4, 3):
        at(iteration)
        values.append(float(tiny.step(model, DATA)['distill.mgd.loss']))
    assert values[0] == values[2] != values[1]
    assert torch.equal(torch.get_rng_state(), before)


def test_generators_learn():
    model = build(levels=[0, 1])
    tiny.total(tiny.step(model, DATA)).backward()
    assert all(one.grad.any() for one in model.objectives['mgd'].parameters())


def test_nothing_missing_and_nothing_left():
    at(0)
    for share in (0.0, 1.0):
        losses = tiny.step(build(masked=share), DATA)
        assert losses['distill.mgd.loss'].isfinite()


@pytest.mark.parametrize(
    'options, sentence',
    [
        (dict(masked=1.5), 'masked must be between 0 and 1, got 1.5'),
        (dict(masked='much'), "masked must be a number, got 'much'"),
        (dict(weight=-1), 'weight must be finite and at least 0, got -1'),
    ],
)
def test_bad_options_are_refused(options, sentence):
    with pytest.raises(ValueError, match=f'^objectives.mgd.{sentence}'):
        build(**options)

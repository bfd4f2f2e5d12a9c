"""Stages: what counts and what rests, one after the other; FitNets', AB's and Saputra et al.'s as single lines."""

from __future__ import annotations

import copy

import pytest
import torch

from kddense import StagesHook

from ..helpers import plugins, tiny
from .test_rest import DATA, STUDENT, moved, train

WIDE = tiny.segmentor('pspnet_r50-d8', width=16)
HINT = dict(type='kddense.FeatureObjective', tap='backbone', levels=[1], connector=dict(type='kddense.Connector'))
SOFT = dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss'))
FITNETS = [dict(until=0.3, losses=['hint'], rest='.*head'), dict(losses=['task', 'soft'])]
SAPUTRA = [dict(until=3, losses=['hint'], rest='.*head'), dict(losses=['task', 'soft'], rest='backbone')]


def build(objectives=None):
    return tiny.distiller(STUDENT, WIDE, objectives or dict(hint=HINT, soft=SOFT), 'mmseg')


def told(model, stages, steps=5):
    states = [copy.deepcopy(model.student.state_dict())]
    logs = []
    for log, state in train(model, [StagesHook(stages)], steps):
        logs.append(log)
        states.append(state)
    return logs, states


def test_the_hint_alone_then_the_task_and_soft_targets():
    logs, states = told(build(), FITNETS)
    on = {key: [float(log[key]) > 0 for log in logs] for key in logs[0]}
    assert on['distill.hint.loss'] == [True] * 3 + [False] * 2
    assert on['decode.loss_ce'] == on['aux.loss_ce'] == on['distill.soft.loss'] == [False] * 3 + [True] * 2
    assert not moved(states[0], states[3], 'decode_head'), 'no weight decay, no statistics'
    assert moved(states[0], states[3], 'backbone.layer2')
    assert moved(states[3], states[5], 'decode_head')


def test_what_has_learnt_rests():
    """Attentive imitation: the trunk learns the hint, and is frozen for the rest."""
    _, states = told(build(), SAPUTRA)
    assert moved(states[0], states[3], 'backbone')
    assert not moved(states[3], states[5], 'backbone')
    assert moved(states[3], states[5], 'decode_head')


def test_an_objective_that_does_not_count_asks_nobody():
    model = build()
    model.follow_stages(StagesHook(FITNETS).losses)
    asked = []
    model.teachers['teacher'].model.decode_head.register_forward_hook(lambda *_: asked.append(1))
    plugins.at_iteration(0)
    tiny.step(model, DATA)
    assert not asked
    plugins.at_iteration(5)
    tiny.step(model, DATA)
    assert asked


def test_all_losses_in_all_stages_is_the_training_without_stages():
    one, other = build(), build()
    torch.manual_seed(0)
    first = [log for log, _ in train(one, [StagesHook([dict(until=0.3), dict()])])]
    torch.manual_seed(0)  # dropout
    second = [log for log, _ in train(other, [])]
    for left, right in zip(first, second, strict=True):
        assert left.keys() == right.keys()
        assert all(torch.equal(torch.as_tensor(left[key]), torch.as_tensor(right[key])) for key in left)


FITNETS_UNRESTED = [dict(until=3, losses=['hint']), dict(losses=['task', 'soft'])]
ADAM = dict(optimizer=dict(type='AdamW', lr=0.01))


def steps_taken(fresh):
    """Return how many steps AdamW has counted after each step, of a weight that never rests."""
    stages = [FITNETS_UNRESTED[0], dict(FITNETS_UNRESTED[1], fresh_optimizer=fresh)]
    model, optimizers, found = build(), [], []

    class Look(StagesHook):
        def before_train(self, runner):
            super().before_train(runner)
            optimizers.append(runner.optim_wrapper.optimizer)

    for _ in train(model, [Look(stages)], **ADAM):
        found.append(int(optimizers[0].state[next(model.student.backbone.parameters())]['step']))
    return found


def test_an_optimiser_that_forgets_counts_from_the_stage_on():
    assert steps_taken(fresh=False) == [1, 2, 3, 4, 5]
    assert steps_taken(fresh=True) == [1, 2, 3, 1, 2]


def test_a_stage_with_a_fresh_optimiser_is_a_training_of_its_own():
    stages = [FITNETS_UNRESTED[0], dict(FITNETS_UNRESTED[1], fresh_optimizer=True)]
    model = build()
    torch.manual_seed(0)
    *_, (_, whole) = train(model, [StagesHook(stages)], **ADAM)
    model = build()
    torch.manual_seed(0)
    list(train(model, [StagesHook(stages)], steps=3, **ADAM))
    *_, (_, alone) = train(model, [StagesHook(FITNETS_UNRESTED)], first=3, **ADAM)
    assert not moved(whole, alone, '')


@pytest.mark.parametrize(
    'stages, sentence',
    [
        ([dict(losses=['hint']), dict()], r'stages\[0\] of the StagesHook needs the key until: another stage follows'),
        ([dict(until=5), dict(until=3)], r'stages\[1\] of the StagesHook.start must come before stop'),
        (
            [dict(until=0.5, loss=['hint']), dict()],
            r"stages\[0\] of the StagesHook has no key 'loss', only fresh_optimizer, losses, rest",
        ),
        ([dict(losses='hint')], r'stages\[0\] of the StagesHook.losses must be a list of names'),
        ([dict(losses=['hnt', 'task', 'soft'])], "there is no objective 'hnt', what may count is task, hint, soft"),
        ([dict(until=3, losses=['hint']), dict(losses=['task'])], 'objectives.soft counts in none of them'),
        (
            [dict(until=20), dict()],
            r'stages\[1\] of the StagesHook: from iteration 20 to 10 of a training of 10, which',
        ),
        ([dict(until=8), dict(until=0.5), dict()], r'stages\[1\] of the StagesHook: from iteration 8 to 5'),
        ([dict(fresh_optimizer='yes')], r'stages\[0\] of the StagesHook.fresh_optimizer must be True or False'),
        ([dict(rest=3)], r'stages\[0\] of the StagesHook.rest must be a regular expression'),
        ([dict(rest='*neck')], r"stages\[0\] of the StagesHook.rest: '\*neck' is no regular expression"),
        ([dict(rest='nekc')], "finds no part 'nekc' in the student"),
    ],
)
def test_bad_stages_are_one_sentence(stages, sentence):
    with pytest.raises(ValueError, match=sentence):
        next(train(build(), [StagesHook(stages)]))


def test_a_weight_that_is_measured_needs_the_task_in_its_stage():
    model = build(dict(hint=HINT | dict(weight='10%'), soft=SOFT))
    with pytest.raises(ValueError, match=r"stages: objectives.hint.weight is measured by the task's gradient"):
        next(train(model, [StagesHook(FITNETS)]))


def test_the_losses_of_a_plain_student_all_count():
    model = tiny.build(STUDENT, scope='mmseg')
    with pytest.raises(ValueError, match='of which only a kddense.Distiller can leave some out'):
        next(train(model, [StagesHook([dict(losses=['task'])])]))

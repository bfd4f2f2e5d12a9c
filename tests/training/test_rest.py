"""Parts at rest: stages of a training, in which neither weights nor statistics of a part move."""

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from kddense import RestHook

from ..helpers import plugins, tiny

STUDENT = tiny.segmentor('pspnet_r50-d8', {'backbone.norm_eval': True})
DATA = tiny.segmentation_data()
SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.1)
TASK_LATER = {'.*': dict(value=1.0, start=0.3)}


def staged(alone=True):
    """AB for three of ten iterations, then the task."""
    boundary = dict(type='kddense.ABObjective', weight=dict(value=3e-5, stop=0.3), alone=alone)
    teacher = tiny.segmentor('pspnet_r50-d8', width=16)
    return tiny.distiller(STUDENT, teacher, dict(ab=boundary), 'mmseg', task_weights={} if alone else TASK_LATER)


def train(model, hooks, steps=5, before_step=lambda: None, first=0, **optimizer):
    """Train as a runner does, from iteration `first` on; yield the log and what the student's state was after each step."""
    wrapper = build_optim_wrapper(model, {'type': 'OptimWrapper', 'optimizer': SGD, **optimizer})
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper, iter=0, max_iters=plugins.RUN_LENGTH)
    for hook in hooks:
        hook.before_train(runner)
    for runner.iter in range(first, steps):
        plugins.at_iteration(runner.iter)
        model.train()
        for hook in hooks:
            hook.before_train_iter(runner, runner.iter)
        before_step()
        log = model.train_step(copy.deepcopy(DATA), wrapper)
        yield log, copy.deepcopy(getattr(model, 'student', model).state_dict())
    for hook in hooks:
        hook.after_train(runner)


def moved(before, after, part):
    return {key for key in after if key.startswith(part) and not torch.equal(before[key], after[key])}


@pytest.mark.parametrize('alone', [True, False], ids=['alone', 'task weights'])
def test_a_part_at_rest_keeps_weights_and_statistics_until_it_wakes(alone):
    model = staged(alone)
    states = [copy.deepcopy(model.student.state_dict())]
    logs = []
    for log, state in train(model, [RestHook({'.*head': dict(stop=0.3)})]):
        logs.append(log)
        states.append(state)
    assert [float(log['decode.loss_ce']) > 0 for log in logs] == [False] * 3 + [True] * 2
    assert all(log['decode.acc_seg'] > 0 for log in logs), 'an accuracy is no loss'
    assert [float(log['distill.ab.loss']) > 0 for log in logs] == [True] * 3 + [False] * 2
    for step in range(3):
        assert moved(states[step], states[step + 1], 'backbone')
        assert not moved(states[step], states[step + 1], ('decode_head', 'auxiliary_head'))
    woken = moved(states[3], states[4], ('decode_head', 'auxiliary_head'))
    assert 'decode_head.conv_seg.weight' in woken
    assert any('running_mean' in key for key in woken)
    assert not any('running_mean' in key for key in moved(states[0], states[-1], 'backbone')), 'norm_eval stays'


def test_without_it_weight_decay_and_statistics_move_what_has_no_loss():
    model = staged()
    first = copy.deepcopy(model.student.state_dict())
    _, state = next(train(model, [], steps=1))
    assert {'decode_head.conv_seg.weight', 'decode_head.bottleneck.bn.running_mean'} <= moved(
        first, state, 'decode_head'
    )


def test_a_trunk_may_rest_while_the_head_learns():
    """Of a plain student too. Its gradients count in no limit of their norm; what lies before it still gets its own."""
    model = tiny.build(STUDENT, scope='mmseg')
    first = copy.deepcopy(model.state_dict())
    wrapper = dict(clip_grad=dict(max_norm=1e9))
    norms = []
    hook = RestHook({r'backbone\.layer[234]': dict()})

    def note():
        for parameter in model.backbone.layer4.parameters():
            parameter.register_hook(lambda gradient: norms.append(gradient.abs().sum().item()))

    runs = train(model, [hook], steps=1, before_step=note, **wrapper)
    log, state = next(runs)
    assert norms
    assert not any(norms)
    assert not moved(first, state, ('backbone.layer2', 'backbone.layer3', 'backbone.layer4'))
    assert {'backbone.stem.0.weight', 'decode_head.conv_seg.weight'} <= moved(first, state, '')
    assert float(log['decode.loss_ce']) > 0


@pytest.mark.parametrize(
    'parts, message',
    [
        ({'neck': dict(stop=0.5)}, "finds no part 'neck' in the student"),
        ({'decode_heat': dict()}, "the nearest names are 'decode_head'"),
        ({'.*head': dict(until=3)}, r"parts\['\.\*head'\] of the RestHook has no until, only start and stop"),
        ({'*head': dict()}, r"^parts of the RestHook: '\*head' is no regular expression: nothing to repeat"),
        ({'.*head': dict(stop=1.5)}, 'must lie between 0 and 1'),
        (
            {'.*head': dict(start=20)},
            r"parts\['\.\*head'\] of the RestHook: from iteration 20 to 10 of a training of 10",
        ),
    ],
)
def test_bad_parts_are_named(parts, message):
    model = staged()
    with pytest.raises(ValueError, match=message):
        next(train(model, [RestHook(parts)]))


def test_factors_by_pattern_and_iteration():
    model = staged(alone=False)
    scaled = {}
    for weights in ({}, {'decode.*': 2.0, r'.*loss_ce': dict(value=3.0, stop=0.5)}):
        other = tiny.distiller(STUDENT, tiny.segmentor('pspnet_r50-d8'), {}, 'mmseg', task_weights=weights)
        for iteration in (0, 6):
            plugins.at_iteration(iteration)
            torch.manual_seed(0)
            scaled[bool(weights), iteration] = tiny.step(other, DATA)
    assert model.task_weights['.*'](2, 10) == 0
    for iteration, factor in ((0, 3.0), (6, 0.0)):
        plain, now = scaled[False, 0], scaled[True, iteration]
        torch.testing.assert_close(now['aux.loss_ce'], factor * plain['aux.loss_ce'], rtol=1e-5, atol=0)
        torch.testing.assert_close(now['decode.loss_ce'], 2 * factor * plain['decode.loss_ce'], rtol=1e-5, atol=0)
        assert now['decode.acc_seg'] > 0, 'an accuracy is no loss'

"""Weights in per cent: the ratio of gradients is what was asked for, when it is measured, and what it is afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.logging import MessageHub

from kddense import Objective
from kddense.objectives.shares import GradientShare, build_weight, sum_of
from kddense.registry import MODELS
from kddense.taps import Taps, tensors_of

from ..helpers import plugins, tiny
from ..helpers.two_processes import in_two_processes

STUDENT, WIDE = (tiny.segmentor('pspnet_r50-d8', width=width) for width in (8, 16))
DATA = tiny.segmentation_data()
SOFT = dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss'))


def distiller(weight='10%', student=STUDENT, **objectives):
    found = {'soft': {**SOFT, 'weight': weight}, **objectives}
    return tiny.distiller(student, WIDE, found, 'mmseg')


def norms(model, data=DATA, on='backbone', but='none'):
    """Return the norms of the gradients of the task and of what distillation adds, on the features of one step."""
    with Taps(model.student, [on], 'student') as heard:
        losses = model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')
    features = list(tensors_of(heard[on]))

    def norm(chosen):
        total = sum_of(losses, but=lambda key: not chosen(key) or key.endswith(but))
        found = torch.autograd.grad(total, features, retain_graph=True, allow_unused=True)
        return float(sum(one.square().sum() for one in found if one is not None)) ** 0.5

    return norm(lambda key: not key.startswith('distill.')), norm(lambda key: key.startswith('distill.')), losses


@pytest.mark.parametrize('weight, share, on', [('10%', 0.1, 'backbone'), (' 2.5 %', 0.025, 'backbone')])
def test_the_ratio_is_what_was_asked_for(weight, share, on):
    model = distiller(weight)
    plugins.at_iteration(0)
    task, own, losses = norms(model, on=on)
    assert own / task == pytest.approx(share, rel=1e-4)
    assert float(losses['distill.soft.weight']) > 0


def test_a_loss_that_the_shared_features_do_not_reach_is_told_once(monkeypatch):
    told = []
    monkeypatch.setattr('kddense.objectives.shares.print_log', lambda text, **options: told.append(text))
    early = dict(SOFT, tap='backbone.maxpool', loss=dict(type='kddense.PKDLoss'), weight='10%')
    model = tiny.distiller(STUDENT, STUDENT, dict(early=early, soft=dict(SOFT, weight='10%')), 'mmseg')
    for iteration in range(2):
        plugins.at_iteration(iteration)
        tiny.step(model, DATA)
    (text,) = told
    assert text.startswith("objectives.early.weight.on: the loss does not depend on 'backbone'")


def test_other_features_and_detectors():
    tap = 'backbone.layer3'
    model = distiller(dict(value='30%', on=tap))
    plugins.at_iteration(0)
    task, own, _ = norms(model, on=tap)
    assert own / task == pytest.approx(0.3, rel=1e-4)
    objectives = dict(rpn=dict(type='kddense.ChenRPNObjective', mu=1, weight='20%'))
    model = tiny.distiller(tiny.faster_rcnn(), tiny.faster_rcnn(width=16), objectives)
    plugins.at_iteration(0)
    torch.manual_seed(0)
    task, own, _ = norms(model, tiny.detection_data())
    assert own / task == pytest.approx(0.2, rel=1e-3)


def test_it_is_measured_every_so_often_and_rises_and_falls_with_its_schedule():
    model = distiller(dict(value='10%', every=4, warmup=2))
    logs = plugins.train(model, DATA, steps=9)
    weights = [log['distill.soft.weight'] for log in logs]
    assert weights[0] == 0
    assert weights[2] == pytest.approx(2 * weights[1]), 'measured in the first step that counts'
    assert weights[2] == weights[3]
    assert weights[4] != weights[3]
    assert weights[4] == weights[5] == weights[7]
    assert weights[8] != weights[7]
    assert len({frozenset(log) for log in logs}) == 1


def test_a_number_is_a_number_and_nothing_is_off():
    assert build_weight(0.5).share is None
    assert build_weight(dict(value=2.0, stop=3)).share is None
    for off in ('0%', dict(value='0 %', stop=0.5)):
        model = distiller(off)
        assert not model.objectives
    assert distiller(1.0).objectives.state_dict() == {}


def test_it_is_in_the_checkpoint_and_goes_on(tmp_path):
    model = distiller(dict(value='10%', every=5))
    plugins.train(model, DATA, steps=2)
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    other = distiller(dict(value='10%', every=5))
    other.load_state_dict(torch.load(tmp_path / 'a.pth'))
    assert torch.equal(model.objectives['soft'].share.ratio, other.objectives['soft'].share.ratio)
    plugins.at_iteration(2)
    weights = [float(tiny.step(one, DATA)['distill.soft.weight']) for one in (model, other)]
    assert weights[0] == weights[1] == pytest.approx(0.1 * float(model.objectives['soft'].share.ratio))
    plugins.assert_contracts(model, STUDENT, 'mmseg', rebuild=distiller)


@pytest.mark.parametrize('type_', ['float16', 'bfloat16'])
def test_half_precision(type_):
    model = distiller()
    plugins.at_iteration(0)
    exact = float(tiny.step(model, DATA)['distill.soft.weight'])
    with torch.autocast('cpu', dtype=getattr(torch, type_)):
        half = distiller()
        found = float(tiny.step(half, DATA)['distill.soft.weight'])
    assert found == pytest.approx(exact, rel=0.2)


def test_a_gradient_of_nothing_changes_nothing():
    share = GradientShare()
    assert share.is_due(7), 'nothing is known'
    share.set(torch.tensor(0.0), torch.tensor(4.0))
    share.set(torch.tensor(float('nan')), torch.tensor(4.0))
    assert float(share.ratio) == 0
    share.set(torch.tensor(1.0), torch.tensor(4.0))
    assert float(share.ratio) == 2
    assert not share.is_due(7)
    share.set(torch.tensor(float('inf')), torch.tensor(4.0))
    share.set(torch.tensor(1.0), torch.tensor(0.0))
    assert float(share.ratio) == 2


@MODELS.register_module()
class LearnsToo(Objective):
    """Has a loss for what it learns itself, which is far larger."""

    student_taps = frozenset({'decode_head'})
    loss_names = ('loss', 'loss_own')
    own_losses = frozenset({'loss_own'})

    def forward(self, seen, taught):
        logits = seen.taps['decode_head']
        return dict(loss=logits.square().mean(), loss_own=1000 * logits.square().sum())


def test_what_it_learns_itself_does_not_count():
    model = tiny.distiller(STUDENT, WIDE, dict(soft=dict(type='kddense.LearnsToo', weight='10%')), 'mmseg')
    plugins.at_iteration(0)
    task, own, losses = norms(model, but='loss_own')
    assert own / task == pytest.approx(0.1, rel=1e-4)
    assert float(losses['distill.soft.loss_own']) == pytest.approx(
        1000 * 2 * 5 * 64 * float(losses['distill.soft.loss'] / losses['distill.soft.weight']), rel=1e-3
    )


def test_two_processes_have_one_weight(tmp_path):
    norm = dict(type='GN', num_groups=2, requires_grad=True)
    calm = {f'{part}.norm_cfg': norm for part in ('backbone', 'decode_head', 'auxiliary_head')}
    calm |= {f'{head}.dropout_ratio': 0.0 for head in ('decode_head', 'auxiliary_head')}
    model = distiller(student=tiny.edit(STUDENT, calm))
    whole = copy.deepcopy(model)
    plugins.at_iteration(0)
    expected = float(tiny.step(whole, DATA)['distill.soft.weight'])

    def half(rank):
        MessageHub.get_current_instance().update_info_dict(dict(iter=0, max_iters=10))
        share = {key: values[rank::2] for key, values in DATA.items()}
        return dict(weight=float(tiny.step(model, share)['distill.soft.weight']))

    found = [one['weight'] for one in in_two_processes(half, tmp_path)]
    assert found[0] == found[1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    'weight, sentence',
    [
        ('ten', "weight must be a number, a dict or a percentage such as '10%', got 'ten'"),
        ('-5%', "or a percentage such as '10%', got '-5%'"),
        (dict(value='10%', every=0), 'weight.every must be a whole number of at least 1, got 0'),
        (dict(value='10%', on='backbnoe'), 'backbnoe'),
        (dict(value='10%', evry=3), 'evry'),
        (dict(value=1.0, every=3), 'every'),
    ],
)
def test_bad_weights_name_the_key(weight, sentence):
    with pytest.raises(ValueError, match=r'objectives\.soft') as error:
        distiller(weight)
    assert sentence in str(error.value)


def test_a_share_of_a_task_that_waits_is_refused():
    hint = dict(type='kddense.FeatureObjective', tap='backbone', levels=[3], alone=True, weight='10%')
    with pytest.raises(ValueError, match="weight is measured by the task's gradient, which is 0 while alone=True"):
        distiller(hint=hint)

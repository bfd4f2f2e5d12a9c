"""FitNets and AB (Romero et al. 2015; Heo et al. 2019): first the hint alone, then the task alone."""

import pytest
import torch
from torch import nn

from kddense.objectives import FeatureObjective
from kddense.registry import MODELS

from ..helpers import plugins, tiny

STUDENT = tiny.segmentor('pspnet_r50-d8')
DATA = tiny.segmentation_data()


@MODELS.register_module()
class StagedHint(FeatureObjective):
    """While it is on, the student's own losses are off."""

    def task_scales(self):
        return {r'.*loss.*': 0.0}


@MODELS.register_module()
class ActivationBoundary(nn.Module):
    """Penalises activations on the other side of 0 than the teacher's."""

    def forward(self, own, other):
        below = (own + 1).square() * ((own > -1) & (other <= 0))
        above = (own - 1).square() * ((own <= 1) & (other > 0))
        return (below + above).sum() / len(own) * 3e-3


def build():
    hint = dict(
        type='kddense.StagedHint',
        tap='backbone.layer2',
        loss=dict(type='kddense.ActivationBoundary'),
        connector=dict(norm=dict(type='BN')),
        weight=dict(value=1.0, stop=0.3),  # of 10 iterations
    )
    return tiny.distiller(STUDENT, tiny.segmentor('pspnet_r50-d8', width=16), dict(hint=hint), 'mmseg')


def test_the_boundary_is_that_of_the_teacher():
    own, other = torch.tensor([[0.5, 0.5, -2.0, 2.0]]), torch.tensor([[1.0, -1.0, -1.0, 3.0]])
    assert float(ActivationBoundary()(own, other)) == pytest.approx((0.25 + 2.25) * 3e-3)


def test_one_run_of_two_stages_has_one_log_key_for_the_hint():
    logs = plugins.train(build(), DATA, steps=6)
    assert len({frozenset(log) for log in logs}) == 1
    hint = [log['distill.hint.loss'] for log in logs]
    task = [log['decode.loss_ce'] for log in logs]
    assert all(hint[:3])
    assert not any(hint[3:])
    assert not any(task[:3])
    assert all(task[3:])
    assert all(log['decode.acc_seg'] > 0 for log in logs), 'an accuracy is no loss'


def test_each_stage_moves_its_own_part():
    model = build()
    plugins.at_iteration(0)
    found = plugins.gradients(model, DATA)
    assert 'backbone.layer2.0.conv1.weight' in found
    assert not any(key.startswith(('backbone.layer3', 'decode_head')) for key in found)
    before = {key: value.clone() for key, value in model.student.named_parameters()}
    plugins.train(model, DATA, steps=3)
    moved = {key.rsplit('.', 2)[0] for key, value in model.student.named_parameters() if not torch.equal(value, before[key])}
    assert moved
    assert not any(key.startswith(('backbone.layer3', 'backbone.layer4', 'decode_head', 'auxiliary')) for key in moved)
    plugins.assert_contracts(model, STUDENT, 'mmseg', rebuild=build)

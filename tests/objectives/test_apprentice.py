"""Apprentice and quantized distillation in a step: values beside weighted tasks, families, teachers that learn along."""

from __future__ import annotations

import functools

import pytest
import torch

from kddense import losses
from kddense.objectives._averages import count_of

from ..helpers import detectors, plugins, tiny

SEGMENTOR = ('mmseg', lambda **sizes: tiny.segmentor('pspnet_r50-d8', **sizes), tiny.segmentation_data())
DETECTOR = ('mmdet', tiny.faster_rcnn, tiny.detection_data())
ONE_STAGE = ('mmdet', functools.partial(detectors.one_stage, 'gfl'), tiny.detection_data())
FAMILIES = dict(segmentor=SEGMENTOR, detector=DETECTOR, one_stage=ONE_STAGE)
KINDS = dict(segmentor='pixels', detector='roi', one_stage='dense')
OBJECTIVES = {
    'apprentice': (dict(type='kddense.ApprenticeObjective'), losses.ApprenticeLoss, 0.5),
    'quantized': (dict(type='kddense.QuantizedDistillationObjective'), losses.QuantizedDistillationLoss, 0.7),
}


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('name', OBJECTIVES)
def test_the_loss_is_that_of_what_both_heads_say(name, family, monkeypatch):
    scope, config, data = FAMILIES[family]
    objective, loss, weight = OBJECTIVES[name]
    wide = dict(width=12) if scope == 'mmseg' else dict(width=12, fpn=24)
    model = tiny.distiller(config(), config(**wide), dict(soft=objective), scope, task_weights={'.*': 1 - weight})
    plugins.make_calm(model)
    heard = []
    own = model.objectives['soft']
    judged = type(own).judged

    def listening(self, seen, taught):
        for one in judged(self, seen, taught):
            heard.append(one)
            yield one

    monkeypatch.setattr(type(own), 'judged', listening)
    plugins.at_iteration(0)
    found = plugins.losses_of(model, data)
    (one,) = heard
    expected = loss(classes='sigmoid' if family == 'one_stage' else 'softmax')(one.student, one.teacher)
    if family == 'one_stage':
        torch.testing.assert_close(count_of(one.sample, 'rows'), one.sample.num_sampled, check_dtype=False)
    torch.testing.assert_close(found['distill.soft.loss'], weight * expected)
    assert len(one.student) > 1
    assert any(key.startswith('backbone') for key in plugins.gradients(model, data))


def along(weight, peer_weight=0.0):
    """Return losses, and the gradients of the teacher, of a step in which both learn."""
    scope, config, data = SEGMENTOR
    joint = dict(
        type='kddense.MutualObjective',
        peer=config(width=12),
        peer_weight=peer_weight,
        compare=dict(type='kddense.ApprenticeObjective', on='decode_head', weight=weight),
    )
    student = dict(
        type='kddense.Distiller', student=config(), objectives=dict(apprentice=joint), task_weights={'.*': 0.5}
    )
    model = tiny.build(student, scope=scope)
    tiny.shake(model.student)
    tiny.shake(model.objectives)
    plugins.make_calm(model)
    peer = model.objectives['apprentice'].peer.model.eval()
    found = plugins.losses_of(model, data)
    sum(value for key, value in found.items() if 'loss' in key).backward()
    plain = plugins.losses_of(model.student, data), plugins.losses_of(peer, data)
    return found, plain, {name: one.grad.clone() for name, one in peer.named_parameters()}


def test_a_teacher_that_learns_along_learns_the_task_alone():
    """Scheme A: the teacher's own loss weighs 1, the student's 0.5; the apprentice teaches nothing."""
    found, (student, peer), gradients = along(0.5)
    for key, value in student.items():
        torch.testing.assert_close(found[key], 0.5 * value if 'loss' in key else value)
    own = sum(value for key, value in peer.items() if 'loss' in key)
    torch.testing.assert_close(found['distill.apprentice.loss_peer_task'], own, rtol=1e-4, atol=0)
    assert found['distill.apprentice.loss_peer'] == 0
    stronger, _, others = along(5.0)
    torch.testing.assert_close(stronger['distill.apprentice.loss'], 10 * found['distill.apprentice.loss'])
    assert all(torch.equal(gradients[name], one) for name, one in others.items())
    _, _, learning = along(5.0, peer_weight=1.0)
    assert not all(torch.equal(gradients[name], one) for name, one in learning.items())

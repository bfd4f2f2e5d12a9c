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


def test_a_teacher_that_learns_along_learns_the_task_alone():
    """Scheme A: what the apprentice says has no part in the teacher's gradient."""
    joint = dict(
        type='kddense.MutualObjective',
        peer=tiny.segmentor('pspnet_r50-d8', width=12),
        peer_weight=0.0,
        compare=dict(type='kddense.ApprenticeObjective', on='decode_head', weight=0.5),
    )
    scope, config, data = SEGMENTOR
    student = dict(
        type='kddense.Distiller', student=config(), objectives=dict(apprentice=joint), task_weights={'.*': 0.5}
    )
    model = tiny.build(student, scope=scope)
    tiny.shake(model.student)
    tiny.shake(model.objectives)
    plugins.make_calm(model)
    peer = model.objectives['apprentice'].peer.model.eval()
    found = plugins.losses_of(model, data)
    task = sum(value for key, value in found.items() if 'loss' in key and not key.startswith('distill.'))
    plain = plugins.losses_of(model.student, data)
    torch.testing.assert_close(task, 0.5 * sum(value for key, value in plain.items() if 'loss' in key))
    sum(value for key, value in found.items() if 'loss' in key).backward()
    gradients = {name: one.grad.clone() for name, one in peer.named_parameters()}
    model.zero_grad()
    alone = plugins.losses_of(peer, data)
    sum(value for key, value in alone.items() if 'loss' in key).backward()
    for name, one in peer.named_parameters():
        # It is given images that were normalised anew: sums differ in their last bits.
        assert (gradients[name] - one.grad).norm() <= 1e-4 * one.grad.norm() + 1e-7, name

"""Localization distillation against mmdet's own LD head: the same weights, images and boxes, the same numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import ConfigDict

from kddense.losses import LDLoss

from ..helpers import detectors, tiny

WHOLE = tiny.detection_data(sizes=((64, 64), (64, 64)))
PADDED = tiny.detection_data()
ONE_WITHOUT = tiny.detection_data(boxes=(tiny.BOXES, ()))
NO_BOXES = tiny.detection_data(boxes=((), ()))
LD_LOSS = dict(type='KnowledgeDistillationKLDivLoss', loss_weight=0.25, T=10)


@pytest.fixture(scope='module')
def distiller():
    model = tiny.distiller(
        detectors.one_stage('gfl'),
        detectors.one_stage('gfl', width=16),
        dict(ld=dict(type='kddense.LDObjective', mode='code')),
    )
    tiny.shake(model.student)
    return model


def reference(distiller, data):
    """Return the losses of a detector with mmdet's LDHead, and the detector."""
    config = detectors.one_stage('gfl')
    config.bbox_head.update(type='LDHead', loss_ld=ConfigDict(LD_LOSS))
    student = tiny.build(config)
    student.load_state_dict(distiller.student.state_dict())
    student.train()
    teacher = distiller.teachers['teacher'].model
    batch = student.data_preprocessor(copy.deepcopy(data), True)
    with torch.no_grad():
        soft = teacher.bbox_head(teacher.extract_feat(batch['inputs']))
    losses = student.bbox_head.loss(student.extract_feat(batch['inputs']), soft, batch['data_samples'])
    return losses, student


@pytest.mark.parametrize(
    'data', [WHOLE, PADDED, ONE_WITHOUT, NO_BOXES], ids=['whole', 'padded', 'one without boxes', 'no boxes']
)
def test_the_main_region_is_that_of_mmdets_head(distiller, data):
    distiller.zero_grad()
    losses = tiny.step(distiller, data)
    theirs, student = reference(distiller, data)
    expected = sum(theirs['loss_ld'])
    value = losses['distill.ld.loss_main']
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    assert (value > 0.01) == (data is not NO_BOXES)
    value.backward()
    expected.backward()
    wanted = dict(student.named_parameters())
    for name, parameter in distiller.student.named_parameters():
        own, other = (torch.zeros(()) if one.grad is None else one.grad for one in (parameter, wanted[name]))
        torch.testing.assert_close(own + torch.zeros_like(parameter), other + torch.zeros_like(parameter), msg=name)
    for name in ('loss_cls', 'loss_bbox', 'loss_dfl'):
        torch.testing.assert_close(losses[name], theirs[name])


def test_classes_are_mmdets_loss_at_the_positives(distiller):
    from mmdet.models.losses import KnowledgeDistillationKLDivLoss

    from kddense.objectives import LDObjective

    objective = LDObjective(mode='code', main_weight=0, region_weight=0, class_weight=10)
    seen, taught = answers(distiller, PADDED)
    (sample,), (own,), (other,) = seen.samples['dense'], seen.opinions['dense'], taught.opinions['dense']
    rows = sample.index[sample.positive]
    expected = KnowledgeDistillationKLDivLoss(loss_weight=10, T=2)(own.logits_at(rows), other.logits_at(rows))
    assert len(rows) > 5
    torch.testing.assert_close(objective(seen, taught)['loss_cls'], expected)


def test_the_valuable_region_is_mmdets_loss_there(distiller):
    """As the authors call it: rows of edges, each of its box's weight, their sum divided by 16."""
    from mmdet.models.losses import KnowledgeDistillationKLDivLoss

    from kddense.objectives.ld import region_of

    seen, taught = answers(distiller, PADDED)
    (sample,), (own,), (other,) = seen.samples['dense'], seen.opinions['dense'], taught.opinions['dense']
    rows, weight = region_of(sample, mode='code')
    assert len(rows) > len(region_of(sample)[0])
    student, teacher = (one.distributions_at(sample.index[rows]).flatten(0, 1) for one in (own, other))
    loss = KnowledgeDistillationKLDivLoss(loss_weight=0.25, T=10)
    expected = loss(student, teacher, weight.repeat_interleave(4), avg_factor=16)
    assert len(rows) > 5
    torch.testing.assert_close(distiller.objectives.ld(seen, taught)['loss_region'], expected)


def answers(distiller, data):
    """Return what both sides of a distiller show in one step."""
    heard = {}
    handle = distiller.objectives.ld.register_forward_hook(lambda module, inputs, output: heard.update(inputs=inputs))
    tiny.step(distiller, data)
    handle.remove()
    return heard['inputs']


def test_the_loss_alone_is_mmdets():
    """The inputs of mmdet's own tests of its losses: a hundred rows of logits."""
    from mmdet.models.losses import KnowledgeDistillationKLDivLoss

    student, teacher = torch.randn(2, 100, 4, 17, generator=torch.Generator().manual_seed(0))
    expected = KnowledgeDistillationKLDivLoss(T=10)(student.flatten(0, 1), teacher.flatten(0, 1))
    torch.testing.assert_close(LDLoss(mode='code')(student, teacher), expected)

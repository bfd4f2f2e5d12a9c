"""CrossKD (Wang et al. 2024): the student's features go through the rest of the teacher's head."""

import inspect

import pytest
import torch
from torch.nn import functional as F

from kddense import Objective
from kddense.registry import MODELS

from ..helpers import plugins, tiny

DATA = tiny.detection_data()


@MODELS.register_module()
class CrossKD(Objective):
    student_taps = frozenset({'bbox_head.cls_convs.0', 'bbox_head.reg_convs.0'})
    teacher_taps = frozenset({'bbox_head'})

    def forward(self, seen, taught):
        (scores, boxes), losses = taught.taps['bbox_head'], dict(loss_cls=0, loss_bbox=0)
        for cls, reg, score, box in zip(*(seen.taps[f'bbox_head.{one}_convs.0'] for one in ('cls', 'reg')), scores, boxes):
            own = taught.through('bbox_head.retina_cls', taught.through('bbox_head.cls_convs[1:]', cls))
            own_box = taught.through('bbox_head.retina_reg', taught.through('bbox_head.reg_convs[1:]', reg))
            losses['loss_cls'] += F.binary_cross_entropy_with_logits(own, score.sigmoid())
            losses['loss_bbox'] += F.l1_loss(own_box, box)
        return losses


def retinanet(**options):
    return tiny.single_stage('retinanet', {'bbox_head.stacked_convs': 2}, **options)


def build(**options):
    objectives = dict(cross=dict(type='kddense.CrossKD'))
    return tiny.distiller(retinanet(), tiny.teacher_of(retinanet(width=16), **options), objectives)


def test_it_takes_twelve_lines():
    lines = inspect.getsource(CrossKD).strip().splitlines()
    assert len([line for line in lines if line.strip() and not line.startswith('@')]) <= 12


OPTIONS = [{}, dict(precision='bf16'), dict(precision='bf16', channels_last=True)]


@pytest.mark.parametrize('options', OPTIONS, ids=['fp32', 'bf16', 'bf16, channels last'])
def test_gradients_reach_what_lies_before_and_nothing_of_the_teacher(options):
    model = build(**options)
    before = {key: value.clone() for key, value in model.teachers['teacher'].state_dict().items()}
    found = plugins.gradients(model, DATA)
    assert 'bbox_head.cls_convs.0.conv.weight' in found
    assert 'bbox_head.reg_convs.0.conv.weight' in found
    assert 'backbone.layer2.0.conv1.weight' in found
    assert {key.split('.')[2] for key in found if key.startswith('bbox_head.')} == {'0'}, 'only the first layers of the towers'
    plugins.train(model, DATA)
    after = model.teachers['teacher'].state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    plugins.assert_contracts(model, retinanet())


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_it_trains_in_mixed_precision(precision):
    logs = plugins.train(build(precision=precision), DATA, type='AmpOptimWrapper', dtype='bfloat16')
    wide = plugins.train(build(precision=precision), DATA)
    for key in ('distill.cross.loss_cls', 'distill.cross.loss_bbox'):
        assert logs[0][key] == pytest.approx(wide[0][key], rel=0.05)


def test_the_rest_of_the_head_computes_what_the_teacher_would():
    model = build()
    head = model.teachers['teacher'].model.bbox_head
    answers = []
    model.objectives['cross'].register_forward_pre_hook(lambda module, args: answers.append(args))
    tiny.step(model, DATA)
    ((seen, taught),) = answers
    feature = seen.taps['bbox_head.cls_convs.0'][0]
    expected = head.retina_cls(head.cls_convs[1](feature))
    found = taught.through('bbox_head.retina_cls', taught.through('bbox_head.cls_convs[1:]', feature))
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match=r"has no part 'bbox_head.retina_cl'; the nearest names are 'bbox_head.retina_cls'"):
        taught.through('bbox_head.retina_cl', feature)
    with pytest.raises(ValueError, match="needs the answer of a teacher, this one is the student's"):
        seen.through('bbox_head.retina_cls', feature)

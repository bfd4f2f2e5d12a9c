"""Chen et al.'s objectives by hand: the worked numbers, their gradients, and the default layer of the hint."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from kddense import ChenRoIObjective, ChenRPNObjective, HintObjective
from kddense.exchange import AnchorSample, Answer, BoxOpinion, RoISample

from ..helpers import tiny

NO_BOXES = torch.zeros(0, 4)
NOBODY = torch.zeros(0, dtype=torch.long)


def roi_answers(student_logits, teacher_logits, student_deltas=NO_BOXES, teacher_deltas=NO_BOXES, targets=NO_BOXES):
    """Return what both sides of a RoI head would show; the first rows are the positives."""
    positive = torch.arange(len(targets))
    rois = torch.zeros(len(student_logits), 5)
    sample = RoISample(rois, positive, torch.zeros_like(positive), targets)
    return (
        Answer({}, {'roi': [sample]}, {'roi': [BoxOpinion(student_logits, student_deltas, sample)]}),
        Answer({}, {}, {'roi': [BoxOpinion(teacher_logits, teacher_deltas, sample)]}),
    )


def rpn_answers(student_logits, teacher_logits, student_deltas=NO_BOXES, teacher_deltas=NO_BOXES, targets=NO_BOXES):
    sample = AnchorSample(
        torch.arange(len(student_logits)), torch.arange(len(targets)), targets, ((1, 1),), len(student_logits)
    )
    return (
        Answer({}, {'rpn': [sample]}, {'rpn': [BoxOpinion(student_logits, student_deltas, sample)]}),
        Answer({}, {}, {'rpn': [BoxOpinion(teacher_logits, teacher_deltas, sample)]}),
    )


def test_example_4a_background_last():
    student = torch.tensor([[0.0, 0, 1], [1, 1, 0]], dtype=torch.float64)
    teacher = torch.tensor([[0.0, 0, 2], [2, 0, 0]], dtype=torch.float64)
    losses = ChenRoIObjective(mu=0.5, nu=0)(*roi_answers(student, teacher))
    assert set(losses) == {'loss_cls'}
    hard = (0.551445 + 0.861995) / 2
    assert 0.5 * hard + losses['loss_cls'].item() == pytest.approx(0.865637, rel=2e-6)


def test_example_4b_the_weight_is_the_last_columns():
    student, teacher = torch.tensor([[1.0, 0, 0]]), torch.tensor([[2.0, 0, 0]])
    losses = ChenRoIObjective(mu=0, nu=0)(*roi_answers(student, teacher))
    assert losses['loss_cls'].item() == pytest.approx(0.847079, rel=2e-6)


def test_example_4c_one_logit():
    student, teacher = (torch.tensor([[math.log(p / (1 - p)), 0.0]]) for p in (0.6, 0.8))
    losses = ChenRPNObjective(mu=0, nu=0)(*rpn_answers(student, teacher))
    assert losses['loss_cls'].item() == pytest.approx(0.683548, rel=2e-6)


@pytest.mark.parametrize('margin, expected', [(0.0, 0.09), (0.01, 0.09 + 0.0325 + 0.04)])
@pytest.mark.parametrize('objective, answers', [(ChenRoIObjective, roi_answers), (ChenRPNObjective, rpn_answers)])
def test_example_4d_over_all_sampled_boxes(objective, answers, margin, expected):
    student = torch.tensor([[0.3, 0, 0, 0], [0.1, 0, 0, 0], [0.15, 0.1, 0, 0], [0, 0, 0, 0.2]], dtype=torch.float64)
    teacher = torch.zeros(4, 4, dtype=torch.float64)
    teacher[:, 0] = 0.2 + 1e-9  # the example's exact tie, decided
    logits = torch.zeros(10, 2)
    seen, taught = answers(logits, logits, student, teacher, torch.zeros(4, 4, dtype=torch.float64))
    losses = objective(mu=1, nu=0.5, margin=margin)(seen, taught)
    assert set(losses) == {'loss_bbox'}
    assert losses['loss_bbox'].item() == pytest.approx(0.5 * expected / 10, rel=1e-6)


def test_imitated_boxes_look_at_the_teacher_alone():
    student, teacher = torch.full((1, 4), 0.3), torch.full((1, 4), 0.2)
    logits = torch.zeros(2, 2)
    values = {
        ChenRoIObjective(mu=1, nu=1, bounded=False)(*roi_answers(logits, logits, student, teacher, target))[
            'loss_bbox'
        ].item()
        for target in (torch.zeros(1, 4), torch.ones(1, 4))
    }
    assert len(values) == 1
    assert values.pop() == pytest.approx(4 * 0.01 / 2)


@pytest.mark.parametrize('options', [{}, dict(temperature=2.0, margin=0.3), dict(bounded=False), dict(mu=0.0, nu=2.0)])
@pytest.mark.parametrize('objective, answers', [(ChenRoIObjective, roi_answers), (ChenRPNObjective, rpn_answers)])
def test_gradients(objective, answers, options):
    random = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
    teacher_logits, teacher_deltas, targets = draw(9, 4), draw(5, 4), draw(5, 4)
    distil = objective(**options)

    def loss(logits, deltas):
        losses = distil(*answers(logits, teacher_logits, deltas, teacher_deltas, targets))
        return losses['loss_cls'] + losses['loss_bbox']

    assert gradcheck(loss, (draw(9, 4).requires_grad_(), draw(5, 4).requires_grad_()))


def test_no_gradient_reaches_the_teacher():
    teacher = [torch.randn(9, 4).requires_grad_(), torch.randn(5, 4).requires_grad_()]
    student = [torch.randn(9, 4).requires_grad_(), torch.randn(5, 4).requires_grad_()]
    answers = roi_answers(student[0], teacher[0], student[1], teacher[1], torch.randn(5, 4))
    sum(ChenRoIObjective()(*answers).values()).backward()
    assert all(tensor.grad is None for tensor in teacher)
    assert all(tensor.grad is not None for tensor in student)


def test_mu_1_and_nu_0_are_off():
    assert ChenRoIObjective(mu=1, nu=0).is_off
    assert ChenRoIObjective(weight=0).is_off
    assert not ChenRoIObjective(mu=1).is_off
    assert not ChenRoIObjective(nu=0).is_off


CHEN = dict(
    rpn=dict(type='kddense.ChenRPNObjective'),
    roi=dict(type='kddense.ChenRoIObjective'),
    hint=dict(type='kddense.HintObjective'),
)


@pytest.mark.parametrize('adapt', [True, False])
def test_a_hint_adapts_even_where_the_channels_agree_unless_told_not_to(adapt):
    objectives = dict(hint=dict(type='kddense.HintObjective', adapt=adapt))
    model = tiny.distiller(tiny.faster_rcnn(), tiny.faster_rcnn(width=16), objectives)
    layers = model.objectives['hint'].connectors
    assert len(layers) == 5
    assert [type(layer).__name__ for layer in layers] == ['ConvConnector' if adapt else 'Identity'] * 5


@pytest.mark.parametrize('norm, power', [('l2', 2), ('l1', 1)])
def test_the_hint_is_a_mean_over_elements_and_levels_at_gamma(norm, power):
    hint = HintObjective(adapt=False, norm=norm, tap='neck')
    hint.connectors.extend([torch.nn.Identity(), torch.nn.Identity()])
    ours, theirs = [torch.full((1, 2, 4, 4), 3.0), torch.zeros(1, 2, 2, 2)], [torch.zeros(1, 2, 4, 4)] * 2
    ours[0].requires_grad_()
    theirs[1] = torch.ones(1, 2, 2, 2)
    value = hint(Answer({'neck': tuple(ours)}), Answer({'neck': tuple(theirs)}))['loss']
    assert value.item() == pytest.approx((3**power + 1) / 2)
    assert hint.schedule(0, None) == 0.5


MOBILENETS_UNUSED = {'backbone.conv2.conv.weight', 'backbone.conv2.bn.weight', 'backbone.conv2.bn.bias'}

FAMILIES = {
    'faster, resnet from resnet': (tiny.faster_rcnn, {}, tiny.faster_rcnn, dict(width=16, fpn=24)),
    'faster, resnet from swin': (tiny.faster_rcnn, {}, tiny.faster_rcnn, dict(name='swin')),
    'faster, resnet from vgg': (tiny.faster_rcnn, {}, tiny.faster_rcnn, dict(name='vgg')),
    'faster, resnet from mobilenet': (tiny.faster_rcnn, {}, tiny.faster_rcnn, dict(name='mobilenet')),
    'faster, swin from resnet': (tiny.faster_rcnn, dict(name='swin'), tiny.faster_rcnn, dict(width=16)),
    'faster, vgg from resnet': (tiny.faster_rcnn, dict(name='vgg'), tiny.faster_rcnn, dict(width=16)),
    'faster, mobilenet from resnet': (tiny.faster_rcnn, dict(name='mobilenet'), tiny.faster_rcnn, dict(width=16)),
    'cascade, resnet from resnet': (tiny.cascade_rcnn, {}, tiny.cascade_rcnn, dict(width=16, fpn=24)),
    'cascade, mobilenet from swin': (tiny.cascade_rcnn, dict(name='mobilenet'), tiny.cascade_rcnn, dict(name='swin')),
    'mask, resnet from resnet': (tiny.mask_rcnn, {}, tiny.mask_rcnn, dict(width=16, fpn=24)),
    'mask, swin from faster': (tiny.mask_rcnn, dict(name='swin'), tiny.faster_rcnn, dict(width=16)),
    'faster from mask': (tiny.faster_rcnn, {}, tiny.mask_rcnn, dict(width=16)),
    'c4 from c4': (tiny.c4, {}, tiny.c4, dict(width=32)),
}


@pytest.mark.parametrize('family', FAMILIES)
def test_one_step_of_all_objectives(family):
    student, own, teacher, other = FAMILIES[family]
    model = tiny.distiller(student(**own), teacher(**other), CHEN)
    losses = tiny.step(model, tiny.detection_data(masks='mask' in family.partition(',')[0]))
    for name, value in losses.items():
        assert all(torch.isfinite(one).all() for one in (value if isinstance(value, list) else [value])), name
    tiny.total(losses).backward()
    missing = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert missing <= (MOBILENETS_UNUSED if own.get('name') == 'mobilenet' else set())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    connectors = list(model.objectives.parameters())
    assert connectors
    assert all(p.grad.abs().sum() > 0 for p in connectors)
    assert not any(p.requires_grad or p.grad is not None for p in model.teachers['teacher'].parameters())

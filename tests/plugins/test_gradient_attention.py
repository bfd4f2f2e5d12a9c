"""Attention transfer by gradients (Zagoruyko & Komodakis 2017): how each model's own loss depends on its features."""

import pytest
import torch

from kddense import Objective
from kddense.exchange import Batch, Question
from kddense.registry import MODELS
from kddense.taps import tensors_of

from ..helpers import plugins, tiny

AT = dict(at=dict(type='kddense.GradientAttention'))
FAMILIES = {
    'pspnet': (tiny.segmentor('pspnet_r50-d8'), 'mmseg', tiny.segmentation_data()),
    'retinanet': (tiny.single_stage('retinanet'), 'mmdet', tiny.detection_data()),
    'fcos': (tiny.single_stage('fcos'), 'mmdet', tiny.detection_data()),
}


@MODELS.register_module()
class GradientAttention(Objective):
    """The distance between the gradients of both models' own losses with respect to their features."""

    student_taps = frozenset({'backbone'})
    gradient_taps = frozenset({'backbone'})

    def __init__(self, losses='loss', **kwargs):
        super().__init__(**kwargs)
        self.losses = losses

    def forward(self, seen, taught):
        features = list(tensors_of(seen.taps['backbone']))[-2:]
        task = sum(value.sum() for key, value in seen.losses.items() for value in tensors_of(value) if self.losses in key)
        ours = torch.autograd.grad(task, features, create_graph=True)
        theirs = taught.gradients['backbone'][-2:]
        return dict(loss=sum((own - other).square().sum().sqrt() for own, other in zip(ours, theirs, strict=True)) / 2)


def build(family, precision='fp32'):
    config, scope, _ = FAMILIES[family]
    return tiny.distiller(config, tiny.teacher_of(config, scope, precision=precision), AT, scope)


def gradient_by_hand(model, data, taps='backbone'):
    """Return the gradients of a plain model's own loss at its backbone's features."""
    heard = []
    hook = model.backbone.register_forward_hook(lambda module, args, out: heard.extend(out))
    losses = model.loss(data['inputs'], data['data_samples'])
    hook.remove()
    total = sum(one.sum() for key, value in losses.items() for one in tensors_of(value) if 'loss' in key)
    return torch.autograd.grad(total, heard[-2:])


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('family', list(FAMILIES))
def test_the_teacher_answers_with_the_gradient_of_its_own_loss(family, precision):
    model = build(family, precision)
    _, _, data = FAMILIES[family]
    prepared = model.data_preprocessor(data, True)
    teacher = model.teachers['teacher']
    answer = teacher.answer(Question(gradients=frozenset({'backbone'})), Batch(**prepared, image_format=model.image_format))
    plain = tiny.build(FAMILIES[family][0], scope=FAMILIES[family][1]).eval()
    if precision == 'fp32':
        plain.load_state_dict(teacher.model.state_dict())
        for head in [one for one in plain.modules() if type(one).__name__.endswith('Head')]:
            head.training = True
        for module in plain.modules():
            if isinstance(module, torch.nn.modules.dropout._DropoutNd):
                module.eval()
        expected = gradient_by_hand(plain, prepared)
    for index, gradient in enumerate(answer.gradients['backbone'][-2:]):
        assert gradient.dtype == torch.float32
        assert gradient.any()
        assert not gradient.requires_grad
        if precision == 'fp32':
            torch.testing.assert_close(gradient, expected[index], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('family', list(FAMILIES))
def test_it_reaches_the_first_layers_of_the_student(family, precision):
    model = build(family, precision)
    plain, scope, data = FAMILIES[family]
    found = plugins.gradients(model, data)
    assert 'backbone.layer1.0.conv1.weight' in found
    logs = plugins.train(model, data)
    assert logs[0]['distill.at.loss'] != logs[1]['distill.at.loss']
    plugins.assert_contracts(model, plain, scope)


def test_of_twins_it_is_zero():
    config = tiny.segmentor('pspnet_r50-d8', {'backbone.norm_eval': True, 'decode_head.dropout_ratio': 0})
    model = tiny.distiller(config, config, AT, 'mmseg')
    norms = [one for one in model.student.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    model.teachers['teacher'].model.load_state_dict(model.student.state_dict())
    prepared = model.train().data_preprocessor(tiny.segmentation_data(), True)
    for norm in norms:
        norm.eval()
    for head in (model.student.auxiliary_head, model.student.decode_head):
        for part in head.modules():
            if isinstance(part, torch.nn.Dropout2d):
                part.eval()
    assert float(model(**prepared, mode='loss')['distill.at.loss']) == 0


def test_two_stage_detectors_have_it_where_their_losses_have_a_second_derivative():
    """Those of the RPN have: RoIAlign's gradient, mmcv's and torchvision's, cannot be differentiated again."""
    config = tiny.faster_rcnn()
    model = tiny.distiller(config, config, dict(at=dict(type='kddense.GradientAttention', losses='loss_rpn')))
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, tiny.detection_data())


def test_a_teacher_that_pads_otherwise_is_refused_in_one_sentence():
    config = tiny.segmentor('pspnet_r50-d8')
    other = tiny.edit(config, {'data_preprocessor.size_divisor': 96})
    model = tiny.distiller(config, other, AT, 'mmseg')
    with pytest.raises(ValueError, match='teacher cannot give the gradients of its own loss: it sees images of'):
        tiny.step(model, tiny.segmentation_data())


def test_unlabelled_images_are_in_no_gradient():
    model, data = build('pspnet'), tiny.segmentation_data()
    teacher = model.teachers['teacher']
    data['data_samples'][1].set_metainfo(dict(unlabelled=True))
    del data['data_samples'][1].gt_sem_seg
    prepared = model.data_preprocessor(data, True)
    question = Question(gradients=frozenset({'backbone'}))
    answer = teacher.answer(question, Batch(**prepared, image_format=model.image_format))
    first, second = answer.gradients['backbone'][-1]
    assert first.any()
    assert not second.any()

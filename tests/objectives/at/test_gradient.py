"""Gradient attention: by the image and by features, across image formats, twice differentiated; what cannot be is named."""

import copy

import pytest
import torch

from kddense.exchange import Batch, ImageFormat, Question
from kddense.losses import gradient_distance
from kddense.objectives.at.gradient import in_format
from kddense.taps import tensors_of
from kddense.views import twice_differentiable

from ...helpers import depth_estimators, detectors, plugins, tiny

AT = dict(at=dict(type='kddense.GradientATObjective'))
FAMILIES = {
    'segmentor': (tiny.segmentor('pspnet_r50-d8'), tiny.segmentor('pspnet_r50-d8', width=16), 'mmseg'),
    'one-stage': (detectors.one_stage('fcos'), detectors.one_stage('fcos', width=16, fpn=24), 'mmdet'),
    'depth': (depth_estimators.depth_estimator(), depth_estimators.depth_estimator(width=16), 'mmseg'),
    'two-stage': (tiny.faster_rcnn(), tiny.faster_rcnn(width=16, fpn=24), 'mmdet'),
}
DATA = {
    'segmentor': tiny.segmentation_data(),
    'one-stage': tiny.detection_data(),
    'depth': depth_estimators.depth_data(),
    'two-stage': tiny.detection_data(),
}


def build(family, **options):
    student, teacher, scope = FAMILIES[family]
    if family == 'two-stage':
        options = dict(losses='loss_rpn.*', **options)
    return tiny.distiller(student, teacher, dict(at=dict(AT['at'], **options)), scope)


@pytest.mark.parametrize('tap', [None, 'backbone'])
@pytest.mark.parametrize('family', list(FAMILIES))
def test_it_reaches_the_first_layers_of_every_family(family, tap):
    model = build(family, tap=tap)
    found = plugins.gradients(model, DATA[family])
    first = 'stem.0' if family == 'segmentor' else 'conv1'
    assert f'backbone.{first}.weight' in found
    assert all(one.isfinite().all() for one in found.values())


def test_by_the_image_it_is_the_distance_of_two_gradients():
    model = build('segmentor')
    model.student.eval()  # once for the loss, once by hand
    prepared = model.data_preprocessor(copy.deepcopy(DATA['segmentor']), True)
    value = model(**prepared, mode='loss')['distill.at.loss']
    images = prepared['inputs'].clone().requires_grad_()
    losses = model.student(images, prepared['data_samples'], mode='loss')
    total = sum(value for key, value in losses.items() if 'loss' in key)
    (ours,) = torch.autograd.grad(total, images)
    teacher = model.teachers['teacher']
    question = Question(gradients=frozenset({'backbone:input of .*'}))
    answer = teacher.answer(question, Batch(**prepared, image_format=model.image_format))
    torch.testing.assert_close(value, gradient_distance(ours, answer.gradients['backbone:input of .*'][0]))


def test_of_twins_it_is_zero():
    student = tiny.segmentor('pspnet_r50-d8')
    model = tiny.distiller(student, student, AT, 'mmseg')
    plugins.make_twins(model)
    assert float(plugins.losses_of(model, tiny.segmentation_data())['distill.at.loss']) == pytest.approx(0, abs=1e-6)


def test_gradients_are_brought_to_the_students_image_format():
    """Of one function of the pixels, seen through two normalisations."""
    ours = ImageFormat(std=(2.0, 3.0, 4.0), reversed_channels=True)
    theirs = ImageFormat(std=(10.0, 20.0, 30.0))
    pixels = torch.rand(1, 3, 2, 2)
    found = []
    for one in (ours, theirs):
        image = (pixels.flip(1) if one.reversed_channels else pixels) / torch.tensor(one.std).view(1, 3, 1, 1)
        image.requires_grad_()
        back = image * torch.tensor(one.std).view(1, 3, 1, 1)
        back = back.flip(1) if one.reversed_channels else back
        found += torch.autograd.grad((back**3 * torch.tensor([1.0, 2, 5]).view(1, 3, 1, 1)).sum(), image)
    torch.testing.assert_close(in_format(found[1], theirs, ours), found[0])


def test_the_teacher_differentiates_the_losses_that_are_asked_for():
    model = build('two-stage')
    prepared = model.data_preprocessor(copy.deepcopy(DATA['two-stage']), True)
    batch = Batch(**prepared, image_format=model.image_format)
    names = ['neck', 'neck of .*', 'neck of loss_rpn_cls', 'neck of loss_rpn_bbox', 'neck of loss_rpn.*']
    answers = model.teachers['teacher'].answer(Question(gradients=frozenset(names)), batch).gradients
    for level in range(2):
        parts = answers['neck of loss_rpn_cls'][level] + answers['neck of loss_rpn_bbox'][level]
        torch.testing.assert_close(answers['neck of loss_rpn.*'][level], parts, rtol=1e-4, atol=1e-8)
        assert torch.equal(answers['neck'][level], answers['neck of .*'][level])
    assert not torch.equal(answers['neck'][0], answers['neck of loss_rpn.*'][0]), 'small RoIs lie on the first level'
    with pytest.raises(ValueError, match="teacher has no loss that matches 'loss_mask'"):
        model.teachers['teacher'].answer(Question(gradients=frozenset({'neck of loss_mask'})), batch)


def test_losses_without_a_second_derivative_are_refused_by_name():
    student, teacher, scope = FAMILIES['two-stage']
    model = tiny.distiller(student, teacher, AT, scope)
    with pytest.raises(
        ValueError, match=r'objectives\.at: loss_cls, loss_bbox of the student cannot be differentiated'
    ) as e:
        tiny.step(model, DATA['two-stage'])
    assert "losses='loss_rpn_cls|loss_rpn_bbox'" in str(e.value)


def test_losses_that_are_not_there_are_refused():
    student, teacher, scope = FAMILIES['segmentor']
    headless = tiny.edit(student, {'auxiliary_head': None})
    model = tiny.distiller(headless, teacher, dict(at=dict(AT['at'], losses='aux.*')), scope)
    with pytest.raises(ValueError, match=r"losses 'aux\.\*' matches none of the student's losses, decode\.loss_ce"):
        tiny.step(model, DATA['segmentor'])


def test_the_symmetry_asks_no_teacher_and_leaves_no_trace():
    student = tiny.segmentor('pspnet_r50-d8')
    models = [
        tiny.build(dict(type='kddense.Distiller', student=student, objectives=objectives), scope='mmseg')
        for objectives in ({}, dict(at=dict(type='kddense.GradientSymmetryObjective')))
    ]
    states = []
    for model in models:
        torch.manual_seed(0)
        losses = tiny.step(model, tiny.segmentation_data((64, 48)))
        states.append((model.state_dict(), torch.get_rng_state(), losses['decode.loss_ce']))
    for key, value in states[0][0].items():
        assert torch.equal(value, states[1][0][key]), key
    assert torch.equal(states[0][1], states[1][1])
    assert states[0][2] == states[1][2]
    assert losses['distill.at.loss'] > 0
    assert 'backbone.stem.0.weight' in plugins.gradients(models[1], tiny.segmentation_data())


@pytest.mark.parametrize('family', ['segmentor', 'one-stage', 'depth'])
def test_the_symmetry_is_that_of_two_plain_runs(family):
    """One of the batch, one of a batch that was mirrored before the student's own preprocessing."""
    student, _, scope = FAMILIES[family]
    objectives = dict(at=dict(type='kddense.GradientSymmetryObjective'))
    model = tiny.build(dict(type='kddense.Distiller', student=student, objectives=objectives), scope=scope).eval()
    data = copy.deepcopy(DATA[family])
    other = copy.deepcopy(data)
    for sample in other['data_samples']:
        width = sample.img_shape[1]
        if 'gt_instances' in sample:
            boxes = sample.gt_instances.bboxes
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        for name in {'gt_sem_seg', 'gt_depth_map'} & set(sample.keys()):
            sample.get(name).data = sample.get(name).data.flip(-1)
    other['inputs'] = [image.flip(-1) for image in other['inputs']]
    gradients = []
    for one in (data, other):
        prepared = model.data_preprocessor(one, True)
        images = prepared['inputs'].requires_grad_()
        losses = model.student(images, prepared['data_samples'], mode='loss')
        terms = [term.sum() for key, value in losses.items() if 'loss' in key for term in tensors_of(value)]
        gradients += torch.autograd.grad(sum(terms), images)
    height, width = data['data_samples'][1].img_shape
    gradients[1][0] = gradients[1][0].flip(-1)
    gradients[1][1, :, :height, :width] = gradients[1][1, :, :height, :width].flip(-1)
    expected = gradient_distance(*gradients)
    value = model(**model.data_preprocessor(copy.deepcopy(DATA[family]), True), mode='loss')['distill.at.loss']
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-7)
    assert plugins.gradients(model, DATA[family])


def test_focal_losses_that_can_be_differentiated_twice_have_the_same_value():
    model = tiny.build(tiny.single_stage('retinanet'))
    loss = model.bbox_head.loss_cls
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 3, 3, 3])
    weights = torch.rand(6)
    expected = loss(logits, labels, weights, avg_factor=2.0)
    with twice_differentiable(model):
        assert torch.equal(loss(logits, labels, weights, avg_factor=2.0), expected)
    assert 'forward' not in loss.__dict__


def gradient_by_hand(model, batch):
    """Return the gradients of a plain model's own loss at the maps of its backbone."""
    heard = []
    hook = model.backbone.register_forward_hook(lambda module, args, out: heard.extend(out))
    losses = model.loss(batch['inputs'], batch['data_samples'])
    hook.remove()
    total = sum(one.sum() for key, value in losses.items() for one in tensors_of(value) if 'loss' in key)
    return torch.autograd.grad(total, heard)


def answer_of(model, batch):
    question = Question(gradients=frozenset({'backbone'}))
    return model.teachers['teacher'].answer(question, Batch(**batch, image_format=model.image_format)).gradients


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('family', ['segmentor', 'one-stage'])
def test_the_teacher_answers_with_the_gradient_of_its_own_loss(family, precision):
    student, config, scope = FAMILIES[family]
    model = tiny.distiller(student, tiny.teacher_of(config, scope, precision=precision), AT, scope)
    batch = model.data_preprocessor(copy.deepcopy(DATA[family]), True)
    found = answer_of(model, batch)['backbone']
    assert all(one.dtype == torch.float32 and one.any() and not one.requires_grad for one in found)
    if precision == 'bf16':
        return
    plain = tiny.build(config, scope=scope).eval()
    plain.load_state_dict(model.teachers['teacher'].model.state_dict())
    for head in (one for one in plain.modules() if type(one).__name__.endswith('Head')):
        head.training = True
    for own, expected in zip(found, gradient_by_hand(plain, batch), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-3, atol=1e-7)


def test_a_teacher_that_pads_otherwise_is_refused_in_one_sentence():
    student, teacher, scope = FAMILIES['segmentor']
    model = tiny.distiller(student, tiny.edit(teacher, {'data_preprocessor.size_divisor': 96}), AT, scope)
    with pytest.raises(ValueError, match='teacher cannot give the gradients of its own loss: it sees images of'):
        tiny.step(model, DATA['segmentor'])


def test_unlabelled_images_are_in_no_gradient_of_the_teacher():
    model, data = build('segmentor'), copy.deepcopy(DATA['segmentor'])
    data['data_samples'][1].set_metainfo(dict(unlabelled=True))
    del data['data_samples'][1].gt_sem_seg
    first, second = answer_of(model, model.data_preprocessor(data, True))['backbone'][-1]
    assert first.any()
    assert not second.any()

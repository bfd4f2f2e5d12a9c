"""Structured distillation: its pair-wise term in all its options, and the holistic one with the discriminator's own loss."""

import itertools

import pytest
import torch
from mmengine.logging import MessageHub

from kddense.losses import pair_wise_similarity, pixel_wise_divergence

from ..helpers import segmentors, tiny

_numbers = itertools.count()
LARGE = dict(size=(128, 128))  # maps of 16 x 16, the least that a discriminator takes


@pytest.fixture(autouse=True)
def hub():
    """No run is going on."""
    fresh = MessageHub.get_instance(f'skd_{next(_numbers)}')
    yield fresh
    MessageHub._instance_dict.pop(fresh.instance_name)


def pspnet(*changes, **options):
    return tiny.segmentor('pspnet_r50-d8', *changes, **options)


def run(config, student=None, teacher=None, data=None):
    """Run a step of one objective; return its losses, and what both heads showed."""
    model = tiny.distiller(student or pspnet(), teacher or pspnet(width=12), dict(it=config), scope='mmseg')
    heard = [segmentors.listen(segmentors.last_head(one)) for one in (model.student, model.teachers['teacher'].model)]
    losses = tiny.step(model, data or tiny.segmentation_data(**LARGE))
    return model, losses, *({key: values[0] for key, values in one.items()} for one in heard)


# --- pair-wise ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'options, arguments',
    [
        ({}, dict(granularity=(2, 2))),
        (dict(granularity=(1, 4)), dict(granularity=(1, 4))),
        (dict(granularity=[4, 4]), dict(granularity=(4, 4))),
        (dict(pool='max'), dict(pool='max')),
        (dict(pool_scale=0.25), dict(pool_scale=0.25)),
        (dict(connections=9), dict(connections=9)),
        (dict(detach_norm=True), dict(detach_norm=True)),
        (dict(mode='code'), dict(pool='max', pool_scale=0.5, detach_norm=True)),
        (dict(mode='code', pool='average'), dict(pool='average', pool_scale=0.5, detach_norm=True)),
        (dict(mode='code', pool_scale=0.25), dict(pool='max', pool_scale=0.25, detach_norm=True)),
        (dict(mode='code', detach_norm=False), dict(pool='max', pool_scale=0.5)),
    ],
)
def test_options_of_the_pair_wise_loss(options, arguments):
    config = dict(type='kddense.PairWiseObjective', weight=1.0, **options)
    _, losses, own, other = run(config, teacher=pspnet(width=12, head=24))
    feature = own['feature'].detach().requires_grad_()
    expected = pair_wise_similarity(feature, other['feature'], **arguments)
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-5)
    (got,) = torch.autograd.grad(losses['distill.it.loss'], own['feature'])
    (wanted,) = torch.autograd.grad(expected, feature)
    torch.testing.assert_close(got, wanted)


def test_the_papers_weight():
    config = dict(pixels=dict(type='kddense.PixelWiseObjective'), pairs=dict(type='kddense.PairWiseObjective'))
    model = tiny.distiller(pspnet(), pspnet(width=12), config, scope='mmseg')
    own, other = (segmentors.listen(one.decode_head) for one in (model.student, model.teachers['teacher'].model))
    losses = tiny.step(model, tiny.segmentation_data())
    pixels = pixel_wise_divergence(own['logits'][0], other['logits'][0])
    pairs = pair_wise_similarity(own['feature'][0], other['feature'][0])
    assert losses['distill.pixels.loss'].item() == pytest.approx(10 * pixels.item(), rel=1e-5)
    assert losses['distill.pairs.loss'].item() == pytest.approx(10 * pairs.item(), rel=1e-5)
    assert len(own['logits']) == len(other['logits']) == 1, 'one forward pass serves all'


@pytest.mark.parametrize(
    'options, expected',
    [
        (dict(granularity=(20, 2)), r'^objectives.it: granularity \(20, 2\) does not fit a map of \(8, 8\)'),
        (dict(connections=25), r'^objectives.it: connections is 25, but the map has only 4x4 nodes'),
        (dict(connections=0), r'^objectives.it.connections must be at least 1, got 0'),
        (dict(mode='paper', pool='min'), r'^objectives.it.pool must be'),
        (dict(mode='fast'), r"^objectives.it.mode must be 'paper' or 'code', got 'fast'"),
    ],
)
def test_pairs_that_do_not_fit_the_map(options, expected):
    config = dict(type='kddense.PairWiseObjective', **options)
    with pytest.raises(ValueError, match=expected):
        run(config, data=tiny.segmentation_data())


# --- holistic -----------------------------------------------------------------------------------------------------------


def holistic(**options):
    return dict(dict(type='kddense.HolisticObjective', discriminator=dict(channels=4)), **options)


def judge(model, own, other, images=None, read=lambda logits: logits.softmax(1)):
    """Return the scores that the discriminator of ``model`` gives student and teacher."""
    discriminator = model.objectives['it'].discriminator
    return [discriminator(read(one['logits']), images) for one in (own, other)]


@pytest.fixture
def still(monkeypatch):
    """Stop the power iteration, which each pass in training mode moves on: all passes see the same weights."""
    from kddense.models import Discriminator

    forward = Discriminator.forward

    def in_eval_mode(self, *args, **kwargs):
        return forward(self.eval(), *args, **kwargs)

    monkeypatch.setattr(Discriminator, 'forward', in_eval_mode)


def images_of(model):
    return model.data_preprocessor(tiny.segmentation_data(**LARGE), True)['inputs']


def test_the_student_is_to_score_high_and_the_discriminator_to_tell(still):
    model, losses, own, other = run(holistic(penalty=0))
    student, teacher = judge(model, own, other, images_of(model))
    assert losses['distill.it.loss_student'].item() == pytest.approx(-0.1 * student.mean().item(), rel=1e-4)
    expected = (student.mean() - teacher.mean()).item()
    assert losses['distill.it.loss_discriminator'].item() == pytest.approx(expected, rel=1e-4)
    assert losses['distill.it.score_student'].item() == pytest.approx(student.mean().item(), rel=1e-4)
    assert losses['distill.it.score_teacher'].item() == pytest.approx(teacher.mean().item(), rel=1e-4)


def test_hinge(still):
    model, losses, own, other = run(holistic(loss='hinge', penalty=0))
    student, teacher = judge(model, own, other, images_of(model))
    expected = (1 + student).relu().mean() + (1 - teacher).relu().mean()
    assert losses['distill.it.loss_discriminator'].item() == pytest.approx(expected.item(), rel=1e-4)


def test_without_the_image(still):
    model, losses, own, other = run(holistic(conditional=False, penalty=0))
    assert model.objectives['it'].discriminator.condition_channels == 0
    student, _ = judge(model, own, other)
    assert losses['distill.it.score_student'].item() == pytest.approx(student.mean().item(), rel=1e-4)


def test_logits(still):
    model, losses, own, other = run(holistic(maps='logits', penalty=0))
    student, _ = judge(model, own, other, images_of(model), read=lambda logits: logits)
    assert losses['distill.it.score_student'].item() == pytest.approx(student.mean().item(), rel=1e-4)


def test_probabilities_of_classes_that_do_not_exclude_each_other(still):
    model, losses, own, other = run(holistic(penalty=0), student=segmentors.fast_scnn())
    student, _ = judge(model, own, other, images_of(model), read=torch.sigmoid)
    assert losses['distill.it.score_student'].item() == pytest.approx(student.mean().item(), rel=1e-4)


def test_as_the_released_code(still):
    model, losses, own, other = run(holistic(mode='code', penalty=0))
    discriminator = model.objectives['it'].discriminator
    assert discriminator.condition_channels == 0
    assert isinstance(discriminator.input_norm, torch.nn.BatchNorm2d)
    student, teacher = judge(model, own, other, read=lambda logits: logits)
    expected = 0.1 * (student.mean() - teacher.mean()).item()
    assert losses['distill.it.loss_discriminator'].item() == pytest.approx(expected, rel=1e-4)
    assert losses['distill.it.loss_student'].item() == pytest.approx(-0.1 * student.mean().item(), rel=1e-4)


@pytest.mark.parametrize('penalty', [10.0, 2.5])
def test_the_gradient_penalty_has_its_own_weight(still, penalty):
    """The points between the maps are drawn by the global generator: the same ones for the same seed."""
    model = tiny.distiller(
        pspnet({'decode_head.dropout_ratio': 0, 'auxiliary_head.dropout_ratio': 0}),
        pspnet(width=12),
        dict(it=holistic(penalty=penalty)),
        scope='mmseg',
    )
    own, other = (segmentors.listen(one.decode_head) for one in (model.student, model.teachers['teacher'].model))
    torch.manual_seed(0)
    losses = tiny.step(model, tiny.segmentation_data(**LARGE))
    torch.manual_seed(0)
    mix = torch.rand(2)[:, None, None, None]
    student, teacher = (one['logits'][0].detach().softmax(1) for one in (own, other))
    between = (mix * teacher + (1 - mix) * student).requires_grad_()
    discriminator, images = model.objectives['it'].discriminator, images_of(model)
    (slope,) = torch.autograd.grad(discriminator(between, images).sum(), between)
    expected = discriminator(student, images).mean() - discriminator(teacher, images).mean()
    expected = expected + penalty * ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
    assert losses['distill.it.loss_discriminator'].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_maps_are_brought_to_one_size(still):
    """A student of stride 32 alone would be too small to judge."""
    model, losses, own, other = run(holistic(penalty=0), student=segmentors.mobilenet())
    assert own['logits'].shape[2:] == (4, 4)
    own['logits'] = torch.nn.functional.interpolate(own['logits'], (16, 16), mode='bilinear', align_corners=False)
    student, _ = judge(model, own, other, images_of(model))
    assert losses['distill.it.score_student'].item() == pytest.approx(student.mean().item(), rel=1e-4)


def gradients(loss, parameters):
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [gradient for gradient in found if gradient is not None and gradient.abs().sum() > 0]


@pytest.mark.parametrize('options', [{}, dict(mode='code'), dict(loss='hinge', penalty=0)])
def test_each_loss_reaches_its_own_side_alone(options):
    model, losses, _, _ = run(holistic(**options))
    student = [parameter for parameter in model.student.parameters() if parameter.requires_grad]
    discriminator = list(model.objectives['it'].discriminator.parameters())
    assert all(parameter.requires_grad for parameter in discriminator)
    assert not gradients(losses['distill.it.loss_student'], discriminator)
    assert not gradients(losses['distill.it.loss_discriminator'], student)
    assert gradients(losses['distill.it.loss_student'], student)
    assert gradients(losses['distill.it.loss_discriminator'], discriminator)


def test_the_weight_is_of_the_students_term_alone(still):
    values = []
    for weight in (0.1, 0.4):
        torch.manual_seed(0)
        _, losses, _, _ = run(holistic(weight=weight))
        values.append({name: value.item() for name, value in losses.items() if name.startswith('distill')})
    one, other = values
    assert other.pop('distill.it.loss_student') == pytest.approx(4 * one.pop('distill.it.loss_student'), rel=1e-4)
    assert other == pytest.approx(one, rel=1e-4)
    assert set(one) == {f'distill.it.{name}' for name in ('loss_discriminator', 'score_student', 'score_teacher')}


def test_scores_are_logged_and_not_summed():
    _, losses, _, _ = run(holistic())
    expected = sum(value for name, value in losses.items() if 'loss' in name)
    assert tiny.total(losses).item() == pytest.approx(expected.item(), rel=1e-6)
    assert not losses['distill.it.score_student'].requires_grad
    assert not losses['distill.it.score_teacher'].requires_grad


def test_a_discriminator_that_gives_nan_is_named():
    model = tiny.distiller(pspnet(), pspnet(width=12), dict(holistic=holistic()), scope='mmseg')
    with torch.no_grad():
        model.objectives['holistic'].discriminator.score.bias.fill_(float('nan'))
    with pytest.raises(
        FloatingPointError, match=r'^distill.holistic.loss_student, distill.holistic.loss_discriminator'
    ):
        tiny.step(model, tiny.segmentation_data(**LARGE))


def test_maps_that_are_too_small_to_judge():
    expected = r'^objectives.it: maps must be at least 16 x 16, got 8 x 8; train on larger crops'
    with pytest.raises(ValueError, match=expected):
        run(holistic(), data=tiny.segmentation_data())


@pytest.mark.parametrize(
    'options, expected',
    [
        (dict(mode='fast'), "mode must be 'paper' or 'code', got 'fast'"),
        (dict(loss='gan'), "loss must be 'wasserstein' or 'hinge', got 'gan'"),
        (dict(maps='features'), "maps must be 'probabilities' or 'logits', got 'features'"),
        (dict(penalty=-1), 'penalty must be a number that is at least 0, got -1'),
        (dict(penalty=float('nan')), 'penalty must be finite, got nan'),
        (dict(on='auxiliary_head'), "on must be 'decode_head' or 'bbox_head': one discriminator"),
        (
            dict(discriminator=dict(channels=0)),
            'discriminator.in_channels and channels must be at least 1, got 5 and 0',
        ),
    ],
)
def test_holistic_options_that_do_not_fit(options, expected):
    with pytest.raises(ValueError, match=f'^objectives.it.{expected}'):
        run(holistic(**options))


def test_a_run_needs_an_optimiser_for_the_discriminator(hub):
    hub.update_info('iter', 0)
    hub.update_info('max_iters', 10)
    expected = (
        r'^objectives.it trains a discriminator, which needs an optimiser of its own: add optim_wrapper = '
        r"dict\(constructor='kddense.JointOptimWrapperConstructor', objectives=dict\(it=dict\(optimizer=dict\(type="
    )
    with pytest.raises(ValueError, match=expected):
        run(holistic())


def test_a_run_with_one_goes_on(hub):
    hub.update_info('iter', 0)
    hub.update_info('max_iters', 10)
    model = tiny.distiller(pspnet(), pspnet(width=12), dict(it=holistic()), scope='mmseg')
    model.objectives['it'].has_optimizer = True
    assert 'distill.it.loss_student' in tiny.step(model, tiny.segmentation_data(**LARGE))

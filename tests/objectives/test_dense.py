"""Objectives on dense heads: worked numbers, what they average over, and steps of all five heads."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import gradcheck

from kddense import ChenDenseObjective, DenseHintonObjective
from kddense.exchange import Answer, DenseOpinion, DenseSample
from kddense.losses import pair_wise_similarity, pixel_wise_divergence, sigmoid_soft_target_divergence

from ..helpers import detectors, tiny

SOFT = dict(type='kddense.DenseHintonObjective')
CHEN = dict(type='kddense.ChenDenseObjective')
PIXEL = dict(type='kddense.PixelWiseObjective', on='bbox_head', weight=1.0)
PAIR = dict(type='kddense.PairWiseObjective', on='bbox_head', weight=1.0)
HOLISTIC = dict(type='kddense.HolisticObjective', on='bbox_head', weight=1.0, discriminator=dict(channels=8))
CWD = dict(type='kddense.CWDObjective', on='bbox_head', compare='feature', weight=1.0)
ALL = dict(soft=SOFT, chen=CHEN, pixel=PIXEL, pair=PAIR, holistic=HOLISTIC, cwd=CWD)
LARGE = dict(sizes=((128, 128), (120, 128)))  # a finest level of 16 x 16, the least that a discriminator takes
UNTAUGHT = dict(boxes=((), ()))


def logit(p):
    return math.log(p / (1 - p))


def answers(student, teacher, positive=(), ours=None, theirs=None, targets=None):
    """Return what both sides of a dense head with one row of places would show: logits ``(L, K)``, distances ``(L, 4)``."""
    places = len(student)
    nothing = torch.zeros(places, 4, dtype=student.dtype)
    index, positive = torch.arange(places), torch.tensor(positive, dtype=torch.long)
    labels = torch.full((places,), student.shape[1])
    sample = DenseSample(
        index=index,
        labels=labels,
        positive=positive,
        targets=nothing[positive] if targets is None else targets,
        priors=torch.zeros(places, 2),
        level_sizes=((1, places),),
        strides=(8,),
        ground_truth=(torch.zeros(0, 4),),
        num_classes=student.shape[1],
    )

    def opinion(logits, distances):
        maps = (logits.T[None, :, None], (nothing if distances is None else distances).T[None, :, None])
        return [DenseOpinion(sample, *((level,) for level in maps))]

    return (
        Answer({}, {'dense': [sample]}, {'dense': opinion(student, ours)}),
        Answer({}, {}, {'dense': opinion(teacher, theirs)}),
    )


def build(objectives, head='fcos', student=(), teacher=(), **options):
    ours, theirs = detectors.one_stage(head, *student), detectors.one_stage(head, *teacher, width=16, fpn=24)
    model = tiny.distiller(ours, theirs, objectives, **options)
    tiny.shake(model.student)
    return model


def told(model, name, data):
    """Run a step; return an objective's losses and the two answers that it was given."""
    heard = {}
    objective = model.objectives[name]
    handle = objective.register_forward_hook(lambda module, inputs, output: heard.update(inputs=inputs, output=output))
    losses = tiny.step(model, data)
    handle.remove()
    return losses, *heard['inputs']


# --- soft targets ---------------------------------------------------------------------------------------------------------


def test_soft_targets_by_hand():
    student = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.5, -1.0]], dtype=torch.float64)
    teacher = torch.tensor([[2.0, -1.0], [0.0, 0.0], [0.5, -1.0]], dtype=torch.float64)
    seen, taught = answers(student, teacher, positive=[0, 2])
    whole = 0.1780806  # of the first place, the only one that differs: the example of the loss
    assert DenseHintonObjective()(seen, taught)['loss'].item() == pytest.approx(whole / 3, abs=1e-5)
    by_positives = DenseHintonObjective(average='positives')(seen, taught)['loss'].item()
    assert by_positives == pytest.approx(whole / 2, abs=1e-5)


def test_the_temperature_softens():
    student, teacher = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    loss = DenseHintonObjective(temperature=3.0)(*answers(student, teacher))['loss']
    torch.testing.assert_close(loss, sigmoid_soft_target_divergence(student, teacher, temperature=3.0))


@pytest.mark.parametrize('average', ['rows', 'positives'])
def test_nothing_positive_is_divided_by_one_at_least(average):
    student = torch.zeros(4, 2, requires_grad=True)
    loss = DenseHintonObjective(average=average)(*answers(student, torch.ones(4, 2)))['loss']
    expected = sigmoid_soft_target_divergence(torch.zeros(4, 2), torch.ones(4, 2)) * (1 if average == 'rows' else 4)
    torch.testing.assert_close(loss.detach(), expected)
    loss.backward()
    assert student.grad.all()


def test_no_place_at_all_is_a_zero_that_back_propagates():
    student = torch.zeros(0, 2, requires_grad=True)
    seen, taught = answers(student, torch.zeros(0, 2))
    for objective in (DenseHintonObjective(), DenseHintonObjective(average='positives'), ChenDenseObjective()):
        value = sum(objective(seen, taught).values())
        assert value.item() == 0
        value.backward()


# --- Chen et al. ----------------------------------------------------------------------------------------------------------


def test_example_4c_on_each_class():
    student, teacher = (torch.tensor([[logit(p)] * 2] * 3, dtype=torch.float64) for p in (0.6, 0.8))
    seen, taught = answers(student, teacher, positive=[1])
    losses = ChenDenseObjective(mu=0, nu=0)(seen, taught)
    assert set(losses) == {'loss_cls'}
    assert losses['loss_cls'].item() == pytest.approx(2 * 0.683548, rel=2e-6)
    by_positives = ChenDenseObjective(mu=0.25, nu=0, average='positives')(seen, taught)['loss_cls'].item()
    assert by_positives == pytest.approx(0.75 * 3 * 2 * 0.683548, rel=2e-6)


@pytest.mark.parametrize('margin, expected', [(0.0, 0.0225), (0.01, 0.040625)])
def test_example_4d_over_the_positives(margin, expected):
    student = torch.tensor([[0.3, 0, 0, 0], [0.1, 0, 0, 0], [0.15, 0.1, 0, 0], [0, 0, 0, 0.2]], dtype=torch.float64)
    teacher = torch.zeros(4, 4, dtype=torch.float64)
    teacher[:, 0] = 0.2 + 1e-7  # the example's exact tie, decided
    ours, theirs = (torch.cat([one, torch.full((6, 4), 9.0)]) for one in (student, teacher))
    logits = torch.zeros(10, 3)
    seen, taught = answers(logits, logits, [0, 1, 2, 3], ours, theirs, torch.zeros(4, 4))
    losses = ChenDenseObjective(mu=1, nu=0.5, margin=margin)(seen, taught)
    assert set(losses) == {'loss_bbox'}
    assert losses['loss_bbox'].item() == pytest.approx(0.5 * expected, rel=1e-4)


def test_the_gradient_of_both_terms_is_exact():
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 6, 2, generator=generator, dtype=torch.float64)
    ours, theirs = torch.randn(2, 2, 4, generator=generator, dtype=torch.float64)
    targets = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    objective = ChenDenseObjective()

    def total(logits, distances):
        seen, _ = answers(logits, teacher, [0, 3], targets=targets[[0, 3]])
        own, other = SimpleNamespace(logits=logits, deltas=distances), SimpleNamespace(logits=teacher, deltas=theirs)
        seen, taught = replace(seen, opinions={'dense': [own]}), Answer({}, {}, {'dense': [other]})
        return sum(objective(seen, taught).values())

    assert gradcheck(total, (student.requires_grad_(), ours.requires_grad_()))


def test_mu_scales_the_heads_own_loss_and_nothing_else():
    model = build(dict(it=dict(CHEN, mu=0.25)))
    plain = copy.deepcopy(model.student)
    data = tiny.detection_data()
    own, distilled = tiny.step(plain, data), tiny.step(model, data)
    torch.testing.assert_close(distilled['loss_cls'], 0.25 * own['loss_cls'])
    torch.testing.assert_close(distilled['loss_bbox'], own['loss_bbox'])
    torch.testing.assert_close(distilled['loss_centerness'], own['loss_centerness'])


# --- structured distillation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('head', ['retinanet', 'fcos', 'rtmdet'])
def test_pixel_wise_is_the_mean_over_levels_of_the_mean_over_positions(head):
    losses, seen, taught = told(build(dict(it=PIXEL), head), 'it', tiny.detection_data())
    pairs = list(zip(seen.opinions['scores'], taught.opinions['scores'], strict=True))
    assert len(pairs) == (3 if head == 'rtmdet' else 5)
    expected = [pixel_wise_divergence(own.logits, other.logits, classes='sigmoid') for own, other in pairs]
    torch.testing.assert_close(losses['distill.it.loss'], sum(expected) / len(pairs))


def test_padding_can_be_left_out():
    config = dict(PIXEL, ignore_unlabelled_pixels=True, levels=[0])
    losses, seen, taught = told(build(dict(it=config)), 'it', tiny.detection_data(sizes=((64, 64), (32, 64))))
    own, other = (side.opinions['scores'][0].logits for side in (seen, taught))
    top = pixel_wise_divergence(own[1:, :, :4], other[1:, :, :4], classes='sigmoid')
    whole = pixel_wise_divergence(own[:1], other[:1], classes='sigmoid')
    torch.testing.assert_close(losses['distill.it.loss'], (2 * whole + top) / 3)


@pytest.mark.parametrize(
    'options, granularities',
    [
        ({}, [(2, 2), (2, 2), (2, 2), (1, 1), (1, 1)]),
        (dict(granularity=(1, 4)), [(1, 4), (1, 4), (1, 2), (1, 1), (1, 1)]),
        (dict(max_nodes=4), [(4, 4), (2, 2), (2, 2), (1, 1), (1, 1)]),
        (dict(max_nodes=5, granularity=(1, 2)), [(4, 8), (2, 4), (1, 2), (1, 1), (1, 1)]),
        (dict(max_nodes=1, granularity=(1, 1)), [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]),
    ],
)
def test_places_grow_until_there_are_no_more_than_allowed(options, granularities):
    losses, seen, taught = told(build(dict(it=dict(PAIR, **options))), 'it', tiny.detection_data())
    pairs = zip(seen.opinions['scores'], taught.opinions['scores'], granularities, strict=True)
    expected = [pair_wise_similarity(own.feature, other.feature, granularity) for own, other, granularity in pairs]
    torch.testing.assert_close(losses['distill.it.loss'], sum(expected) / 5)


def test_levels_with_few_places_connect_what_they_have():
    config = dict(PAIR, granularity=(1, 1), connections=9)
    losses, seen, taught = told(build(dict(it=config)), 'it', tiny.detection_data())
    pairs = zip(seen.opinions['scores'], taught.opinions['scores'], [9, 9, 4, 1, 1], strict=True)
    expected = [pair_wise_similarity(a.feature, b.feature, (1, 1), connections=near) for a, b, near in pairs]
    torch.testing.assert_close(losses['distill.it.loss'], sum(expected) / 5)


def test_places_of_a_segmentor_grow_too():
    config = dict(type='kddense.PairWiseObjective', max_nodes=4, weight=1.0)
    model = tiny.distiller(
        tiny.segmentor('pspnet_r50-d8'), tiny.segmentor('pspnet_r50-d8', width=12), dict(it=config), scope='mmseg'
    )
    losses, seen, taught = told(model, 'it', tiny.segmentation_data())
    (own,), (other,) = seen.opinions['pixels'], taught.opinions['pixels']
    assert own.feature.shape[-2:] == (8, 8)
    torch.testing.assert_close(losses['distill.it.loss'], pair_wise_similarity(own.feature, other.feature, (4, 4)))


def test_one_discriminator_judges_every_level_that_is_large_enough():
    objective = dict(HOLISTIC, penalty=0)
    model = build(dict(it=objective))
    discriminator = model.objectives['it'].discriminator.eval()
    sizes = []
    discriminator.register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape[-2:])))
    model.objectives['it'].train = lambda mode=True: None  # so that spectral norms stand still
    losses, seen, taught = told(model, 'it', tiny.detection_data(sizes=((256, 256), (256, 200))))
    assert sizes == [(32, 32)] * 3 + [(16, 16)] * 3
    expected = []
    for own, other in list(zip(seen.opinions['scores'], taught.opinions['scores'], strict=True))[:2]:
        images = seen.samples['scores'][0].images
        scores = [discriminator(one.logits.detach().sigmoid(), images).mean() for one in (own, other)]
        expected.append(torch.stack([-scores[0], scores[0] - scores[1]]))
    student, critic = sum(expected) / 2
    torch.testing.assert_close(losses['distill.it.loss_student'], student)
    torch.testing.assert_close(losses['distill.it.loss_discriminator'], critic)


def test_images_too_small_for_any_level():
    with pytest.raises(ValueError, match=r'^objectives.it: maps must be at least 16 x 16, got 8 x 8; train on larger'):
        tiny.step(build(dict(it=HOLISTIC)), tiny.detection_data())


def test_the_finest_level_alone():
    losses, seen, taught = told(build(dict(it=dict(PAIR, levels=[0]))), 'it', tiny.detection_data())
    own, other = (side.opinions['scores'][0].feature for side in (seen, taught))
    torch.testing.assert_close(losses['distill.it.loss'], pair_wise_similarity(own, other, (2, 2)))


# --- steps of all heads ---------------------------------------------------------------------------------------------------


def gradients(model, losses):
    model.zero_grad()
    tiny.total(losses).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize('batch', [{}, UNTAUGHT, dict(boxes=(tiny.BOXES, ()))], ids=['boxes', 'none', 'one without'])
@pytest.mark.parametrize('head', detectors.HEADS)
def test_one_step_of_all_objectives(head, batch):
    model = build(ALL, head)
    losses = tiny.step(model, tiny.detection_data(**LARGE, **batch))
    assert {name.split('.')[1] for name in losses if name.startswith('distill.')} == set(ALL)
    if batch == UNTAUGHT:
        assert losses['distill.chen.loss_bbox'].item() == 0
    found = gradients(model, losses)
    assert all(grad is not None and grad.isfinite().all() for grad in found.values())
    assert any(grad.any() for name, grad in found.items() if name.startswith('objectives.cwd.connectors'))
    assert not any(p.requires_grad or p.grad is not None for p in model.teachers['teacher'].parameters())


@pytest.mark.parametrize('head', detectors.HEADS)
def test_a_student_that_is_its_teacher_has_nothing_to_learn(head):
    """But Chen's soft classes, whose cross-entropy is the teacher's own, and boxes that are as far from the target."""
    config = tiny.edit(detectors.one_stage(head), {'backbone.norm_eval': True})
    if head == 'rtmdet':
        config = tiny.edit(config, {'bbox_head.norm_cfg': dict(type='GN', num_groups=4, _delete_=True)})
    imitation = dict(CHEN, bounded=False, mu=1)
    model = tiny.distiller(config, config, dict(soft=SOFT, pixel=PIXEL, pair=PAIR, box=imitation))
    model.student.load_state_dict(model.teachers['teacher'].model.state_dict())
    losses = tiny.step(model, tiny.detection_data())
    found = {name: value.item() for name, value in losses.items() if name.startswith('distill.')}
    assert len(found) == 4
    assert found == pytest.approx(dict.fromkeys(found, 0), abs=1e-6)


@pytest.mark.parametrize('head', detectors.HEADS)
def test_mixed_precision(head):
    model = build(ALL, head)
    model.train()
    prepared = model.data_preprocessor(tiny.detection_data(**LARGE), True)
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(**prepared, mode='loss')
    distilled = {name: value for name, value in losses.items() if name.startswith('distill.')}
    assert all(value.dtype == torch.float32 and value.isfinite() for value in distilled.values())
    assert all(grad.isfinite().all() for grad in gradients(model, losses).values() if grad is not None)


@pytest.mark.parametrize('objective, order', [(PIXEL, ['teacher', 'student']), (SOFT, ['student', 'teacher'])])
def test_only_rows_wait_for_the_students_sample(objective, order, monkeypatch):
    model = build(dict(it=objective))
    ran = []
    for name, detector in (('student', model.student), ('teacher', model.teachers['teacher'].model)):
        extract = detector.extract_feat
        monkeypatch.setattr(detector, 'extract_feat', lambda images, n=name, e=extract: ran.append(n) or e(images))
    tiny.step(model, tiny.detection_data())
    assert ran == order


# --- bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'config, expected',
    [
        (dict(SOFT, average='images'), "average must be 'rows' or 'positives', got 'images'"),
        (dict(SOFT, temperature=0.0), 'temperature must be above 0, got 0'),
        (dict(CHEN, average='images'), "average must be 'rows' or 'positives', got 'images'"),
        (dict(CHEN, mu=2), r'mu must lie in \[0, 1\], got 2'),
        (dict(PAIR, max_nodes=0), 'max_nodes must be at least 1, got 0'),
        (dict(PAIR, max_nodes=9, pool_scale=0.5), 'max_nodes and pool_scale both say how large a place is'),
        (dict(PAIR, max_nodes=9, mode='code'), 'max_nodes and pool_scale both say how large a place is'),
        (dict(PIXEL, levels=[0, 5]), r'levels must name some of 0..4, got \[0, 5\]'),
        (dict(PIXEL, levels=[]), 'levels must be a list of whole numbers or None, and not empty'),
        (dict(PIXEL, on='decode_head'), r': student \(FCOS\) has no pixel classifier; only segmentors have one'),
    ],
)
def test_options_that_do_not_fit(config, expected):
    with pytest.raises(ValueError, match=rf'^objectives.it[.]?{expected}'):
        build(dict(it=config))


@pytest.mark.parametrize('config', [SOFT, CHEN, PIXEL, PAIR, HOLISTIC], ids=lambda config: config['type'])
def test_teachers_that_do_not_fit(config):
    with pytest.raises(
        ValueError, match='^objectives.it: student and teacher do not speak about the same boxes: bbox_head.str'
    ):
        build(dict(it=config), teacher=[{'bbox_head.strides': [8, 16, 32, 64, 160]}])
    with pytest.raises(ValueError, match='^objectives.it: teacher.input_scale is 2, and the levels of two image sizes'):
        tiny.distiller(
            detectors.one_stage('fcos'), tiny.teacher_of(detectors.one_stage('fcos'), input_scale=2.0), dict(it=config)
        )
    with pytest.raises(ValueError, match=r'^objectives.it: teacher \(FasterRCNN\) has no dense head'):
        tiny.distiller(detectors.one_stage('fcos'), tiny.faster_rcnn(), dict(it=config))


@pytest.mark.parametrize('config', [SOFT, CHEN, PIXEL, HOLISTIC], ids=lambda config: config['type'])
def test_the_classes_of_the_run_are_compared(config):
    assert build(dict(it=config)).objectives['it'].compares_classes

"""Structured distillation of depth estimators: the same objectives, on features, depth maps and bins."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from mmengine.structures import PixelData

from kddense.losses import pair_wise_similarity, pixel_wise_divergence

from ..helpers import tiny
from ..helpers.depth_estimators import BINS, depth_data, depth_estimator
from ..helpers.segmentors import listen

LARGE = dict(size=(64, 64))  # maps of 16 x 16, the least that a discriminator takes
HOLISTIC = dict(type='kddense.HolisticObjective', discriminator=dict(channels=8), weight=1.0)


def build(config, student=None, teacher=None):
    return tiny.distiller(
        student or depth_estimator(), teacher or depth_estimator(width=12), dict(it=config), scope='mmseg'
    )


def run(config, student=None, teacher=None, data=None):
    """Run a step of one objective; return the distiller, its losses, and what both decoders showed."""
    model = build(config, student, teacher)
    decoders = [one.decode_head.decoder for one in (model.student, model.teachers['teacher'].model)]
    heard = [listen(decoder) for decoder in decoders]
    losses = tiny.step(model, data or depth_data(**LARGE))
    return model, losses, *({key: values[0] for key, values in one.items()} for one in heard)


@pytest.mark.parametrize('teacher', [{}, BINS, {'decode_head.max_depth': 80.0}])
def test_pair_wise_compares_features_whatever_the_scale(teacher):
    config = dict(type='kddense.PairWiseObjective', weight=1.0)

    _, losses, own, other = run(config, teacher=depth_estimator(teacher, width=12, head=24))

    torch.testing.assert_close(losses['distill.it.loss'], pair_wise_similarity(own['feature'], other['feature']))


def test_pair_wise_with_a_segmentor_for_a_teacher():
    teacher = tiny.teacher_of(tiny.segmentor('pspnet_r50-d8'), 'mmseg')

    losses = tiny.step(build(dict(type='kddense.PairWiseObjective'), teacher=teacher), depth_data())

    assert losses['distill.it.loss'] > 0


def test_pixel_wise_compares_bins():
    _, losses, own, other = run(
        dict(type='kddense.PixelWiseObjective', weight=1.0), depth_estimator(BINS), depth_estimator(BINS, width=12)
    )

    torch.testing.assert_close(losses['distill.it.loss'], pixel_wise_divergence(own['logits'], other['logits']))


def test_the_students_term_leaves_the_discriminator_alone():
    model, losses, _, _ = run(HOLISTIC)

    losses['distill.it.loss_student'].backward()

    assert any(p.grad is not None and p.grad.any() for p in model.student.parameters())
    assert all(p.grad is None for p in model.objectives['it'].parameters())


def test_the_discriminator_sees_positions_and_the_image(monkeypatch):
    model = build(HOLISTIC)
    seen = []
    discriminator = model.objectives['it'].discriminator
    forward = discriminator.forward
    monkeypatch.setattr(
        discriminator, 'forward', lambda maps, condition: seen.append((maps, condition)) or forward(maps, condition)
    )
    heard = [listen(one.decode_head.decoder) for one in (model.student, model.teachers['teacher'].model)]

    data = depth_data(**LARGE)
    tiny.step(model, data)

    student, _, real = (maps for maps, _ in seen[:3])
    torch.testing.assert_close(student, heard[0]['logits'][0].sigmoid())
    torch.testing.assert_close(real, heard[1]['logits'][0].sigmoid())
    images = model.data_preprocessor(copy.deepcopy(data), True)['inputs']
    assert all(torch.equal(condition, images) for _, condition in seen)


def test_a_teacher_of_bins_for_a_student_that_regresses():
    _, losses, _, other = run(HOLISTIC, teacher=depth_estimator(BINS, width=12))

    assert losses['distill.it.loss_student'].isfinite()
    assert other['logits'].shape[1] == 12


@pytest.mark.parametrize('objective', ['PairWiseObjective', 'HolisticObjective'])
def test_images_of_unknown_depth_are_still_distilled(objective):
    data = depth_data(**LARGE)
    for sample in data['data_samples']:
        sample.gt_depth_map = PixelData(data=torch.zeros(1, 64, 64))
    config = HOLISTIC if objective == 'HolisticObjective' else dict(type='kddense.PairWiseObjective')

    _, losses, _, _ = run(config, data=data)

    assert losses['decode.loss_silog'] == 0
    assert any(value.abs() > 0 for key, value in losses.items() if key.startswith('distill.it.loss'))


@pytest.mark.parametrize(
    ('config', 'student', 'teacher', 'message'),
    [
        (
            dict(type='kddense.PixelWiseObjective'),
            {},
            {},
            "objectives.it: student.decode_head.target is 'log': only 'bins' has probabilities to compare",
        ),
        (
            dict(type='kddense.PixelWiseObjective'),
            BINS,
            {**BINS, 'decode_head.num_bins': 13},
            'objectives.it: decode_head.num_bins is 12 in the student and 13 in the teacher',
        ),
        (
            HOLISTIC,
            {},
            {'decode_head.max_depth': 80.0},
            'objectives.it: decode_head.max_depth is 10.0 in the student and 80.0 in the teacher',
        ),
    ],
)
def test_other_scales_are_refused_at_build(config, student, teacher, message):
    with pytest.raises(ValueError, match=message):
        build(config, depth_estimator(student), depth_estimator(teacher))


def test_a_segmentor_has_no_depth_to_judge():
    with pytest.raises(ValueError, match=r'teacher \(EncoderDecoder\) does not estimate depth, the other does'):
        build(HOLISTIC, teacher=tiny.teacher_of(tiny.segmentor('pspnet_r50-d8'), 'mmseg'))


def test_unlabelled_images_take_part():
    data = depth_data(**LARGE, unknown=0.0)
    sample = data['data_samples'][1]
    sample.set_metainfo(dict(unlabelled=True))
    del sample.gt_depth_map

    _, losses, own, other = run(dict(type='kddense.PairWiseObjective', weight=1.0), data=data)

    torch.testing.assert_close(losses['distill.it.loss'], pair_wise_similarity(own['feature'], other['feature']))


def test_depth_is_compared_in_float32_under_autocast():
    model = build(HOLISTIC)

    with torch.autocast('cpu', torch.bfloat16):
        losses = tiny.step(model, depth_data(**LARGE))

    assert all(math.isfinite(value) for value in losses.values())

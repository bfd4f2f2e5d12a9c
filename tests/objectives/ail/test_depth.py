"""Attentive imitation and hints of depth: against loops, unknown pixels, the range of errors, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from kddense.objectives.ail.teacher_error import TeacherErrors, write_teacher_errors

from ...helpers import tiny
from ...helpers.depth_estimators import BINS, depth_data, depth_estimator
from ...helpers.segmentors import listen

IMITATION = dict(type='kddense.AttentiveDepthObjective', error_range=0.8)
HINT = dict(type='kddense.AttentiveDepthHintObjective', error_range=0.8)


def build(config, student=None, teacher=None):
    return tiny.distiller(
        student or depth_estimator(), teacher or depth_estimator(width=12), dict(it=config), scope='mmseg'
    )


def run(config, data=None, **models):
    """Run a step; return the distiller, the losses, both depths at the stride of the heads and the true one there."""
    model = build(config, **models)
    data = data or depth_data()
    heads = [model.student.decode_head, model.teachers['teacher'].model.decode_head]
    heard = [listen(head.decoder) for head in heads]
    losses = tiny.step(model, data)
    depths = [head.to_depth(one['logits'][0]).detach() for head, one in zip(heads, heard, strict=True)]
    truth = torch.stack([sample.gt_depth_map.data[..., 2::4, 2::4] for sample in data['data_samples']])
    return model, losses, *(depth.double().numpy()[:, 0] for depth in (*depths, truth))


def imitation_by_loop(student, teacher, truth, span, per='image', linear=False):
    scale = (lambda value: value) if linear else np.log
    images = []
    for s, t, y in zip(student, teacher, truth, strict=True):
        known = y > 0
        if not known.any():
            continue
        error = np.abs(scale(t[known]) - scale(y[known]))
        trust = 1 - (error if per == 'pixel' else error.mean()) / span
        images.append((np.clip(trust, 0, 1) * (scale(s[known]) - scale(t[known])) ** 2).mean())
    return sum(images) / len(images)


@pytest.mark.parametrize('per', ['image', 'pixel'])
@pytest.mark.parametrize('alpha', [0.5, 0.2])
def test_imitation_by_a_loop(per, alpha):
    _, losses, student, teacher, truth = run(dict(IMITATION, per=per, alpha=alpha))

    wanted = (1 - alpha) * imitation_by_loop(student, teacher, truth, 0.8, per)

    assert losses['distill.it.loss'].item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(('target', 'linear'), [('linear', True), ('log', False)])
def test_the_space_is_that_which_the_student_regresses(target, linear):
    student = depth_estimator({'decode_head.target': target})

    _, losses, *depths = run(dict(IMITATION, error_range=5.0), student=student, teacher=depth_estimator(BINS, width=12))

    wanted = 0.5 * imitation_by_loop(*depths, 5.0, linear=linear)
    assert losses['distill.it.loss'].item() == pytest.approx(wanted, rel=1e-4)


def test_the_students_own_losses_are_scaled_by_alpha():
    data = depth_data()
    alone = tiny.step(build(dict(IMITATION, alpha=1.0)), data)

    losses = tiny.step(build(dict(IMITATION, alpha=0.3)), data)

    assert 'distill.it.loss' not in alone
    for name in ('decode.loss_silog', 'decode.loss_log_l1'):
        torch.testing.assert_close(losses[name], 0.3 * alone[name])
    torch.testing.assert_close(losses['decode.abs_rel'], alone['decode.abs_rel'])


def test_an_image_of_unknown_depth_counts_nowhere():
    data = depth_data()
    data['data_samples'][0].gt_depth_map = PixelData(data=torch.zeros(1, 64, 64))

    _, losses, *depths = run(IMITATION, data=data)

    assert losses['distill.it.loss'].item() == pytest.approx(0.5 * imitation_by_loop(*depths, 0.8), rel=1e-4)


@pytest.mark.parametrize('config', [IMITATION, HINT, dict(IMITATION, error_range='running')])
def test_a_batch_of_unknown_depth_is_a_zero_that_back_propagates(config):
    model, losses, *_ = run(config, data=depth_data(unknown=1.0))

    losses['distill.it.loss'].backward()

    assert losses['distill.it.loss'] == 0
    assert all(not p.grad.any() for p in model.student.parameters() if p.grad is not None)


def test_the_hint_by_a_loop():
    model = build(HINT)
    data = depth_data()
    backbones = [model.student.backbone, model.teachers['teacher'].model.backbone]
    features = []
    for backbone in backbones:
        backbone.register_forward_hook(lambda module, inputs, outputs: features.append(outputs[-1].detach()))
    decoder = model.teachers['teacher'].model.decode_head
    heard = listen(decoder.decoder)
    losses = tiny.step(model, data)
    teacher = decoder.to_depth(heard['logits'][0]).double()[:, 0]
    truth = torch.stack([sample.gt_depth_map.data[0, 2::4, 2::4] for sample in data['data_samples']]).double()

    other, own = features  # the teacher, which need not know the student's samples, runs first
    own = model.objectives['it'].connectors[0](own).detach()
    total = 0.0
    for index in range(2):
        known = truth[index] > 0
        error = (teacher[index][known].log() - truth[index][known].log()).abs().mean()
        total += float((1 - error / 0.8).clamp(0, 1)) * float((own[index] - other[index]).square().mean())

    assert losses['distill.it.loss'].item() == pytest.approx(total / 2, rel=1e-4)


def test_without_a_clamp_the_worst_is_pushed_away():
    """As in the paper: an error beyond the range turns the sign."""
    narrow = dict(IMITATION, error_range=0.01)

    assert run(dict(narrow, clamp=False))[1]['distill.it.loss'] < 0
    assert run(narrow)[1]['distill.it.loss'] == 0


def test_the_running_range_is_that_of_the_images_seen():
    model, losses, student, teacher, truth = run(dict(IMITATION, error_range='running'))
    errors = [np.abs(np.log(t[y > 0]) - np.log(y[y > 0])).mean() for t, y in zip(teacher, truth, strict=True)]

    span = max(errors) - min(errors)

    assert model.objectives['it'].error_range.least.item() == pytest.approx(min(errors), rel=1e-4)
    assert model.objectives['it'].error_range.greatest.item() == pytest.approx(max(errors), rel=1e-4)
    assert losses['distill.it.loss'].item() == pytest.approx(
        0.5 * imitation_by_loop(student, teacher, truth, span), abs=1e-5
    )


def test_a_measured_range(tmp_path):
    measure = build(IMITATION).objectives['it'].measure
    errors = TeacherErrors.of(torch.tensor([0.2, 0.5, 1.0]), 'toy', 'untrained', measure)
    write_teacher_errors(tmp_path / 'errors.json', errors)

    _, losses, *depths = run(dict(IMITATION, error_range=str(tmp_path / 'errors.json')))

    assert losses['distill.it.loss'].item() == pytest.approx(0.5 * imitation_by_loop(*depths, 0.8), rel=1e-4)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(alpha=1.5), r'objectives.it.alpha must lie in \[0, 1\], got 1.5'),
        (dict(per='box'), "objectives.it.per must be 'image' or 'pixel', got 'box'"),
        (dict(error_range=-1.0), 'objectives.it.error_range must be at least 0, got -1.0'),
        (dict(error_range='nowhere.json'), "objectives.it.error_range: 'nowhere.json' is no file of teacher errors"),
        (dict(percentile=95), 'objectives.it.percentile needs errors that were measured before'),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(dict(IMITATION, **options))


def test_a_file_of_another_measure_is_refused(tmp_path):
    write_teacher_errors(tmp_path / 'boxes.json', TeacherErrors.of(torch.ones(3), 'toy', 'untrained', 'squared deltas'))

    with pytest.raises(
        ValueError, match="holds errors in 'squared deltas', this needs 'mean absolute difference of depth"
    ):
        build(dict(IMITATION, error_range=str(tmp_path / 'boxes.json')))


@pytest.mark.parametrize('config', [IMITATION, HINT])
def test_other_depths_are_refused(config):
    with pytest.raises(ValueError, match='decode_head.max_depth is 10.0 in the student and 80.0 in the teacher'):
        build(config, teacher=depth_estimator({'decode_head.max_depth': 80.0}))
    with pytest.raises(ValueError, match=r'student \(EncoderDecoder\) does not estimate depth'):
        build(config, student=tiny.segmentor('pspnet_r50-d8'))


def test_the_file_is_plain_json(tmp_path):
    write_teacher_errors(tmp_path / 'errors.json', TeacherErrors.of(torch.ones(3), 'toy', 'untrained', 'any'))

    assert json.loads((tmp_path / 'errors.json').read_text())['count'] == 3

"""Attentive imitation of boxes: the worked example, every kind of head, the running range, files of other runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub

from kddense import AttentiveBoxObjective
from kddense.exchange import AnchorSample, Answer, BoxOpinion, RoISample
from kddense.objectives.ail import BOX_ERROR
from kddense.objectives.ail.teacher_error import TeacherErrors, write_teacher_errors

from ...helpers import detectors, tiny

TARGETS = torch.zeros(3, 4, dtype=torch.float64)
TEACHER = torch.tensor([[0.1, 0, 0, 0], [0.3, 0, 0, 0], [0.5, 0, 0, 0]], dtype=torch.float64)
STUDENT = torch.tensor([[0.2, 0, 0, 0]] * 3, dtype=torch.float64)
WIDE = 1e4  # untrained teachers are far off: no positive of theirs would be trusted at all
AIL = dict(type='kddense.AttentiveBoxObjective')
DATASET = dict(type='CocoDataset', data_root='data/bccd', ann_file='train.json')
CONFIG = f'train_dataloader = dict(dataset={DATASET!r})'

FAMILIES = {
    'faster r-cnn': (tiny.faster_rcnn, 'roi'),
    'cascade r-cnn': (tiny.cascade_rcnn, 'roi'),
    'rpn': (tiny.faster_rcnn, 'rpn'),
    **{head: (lambda head=head, **sizes: detectors.one_stage(head, **sizes), 'dense') for head in detectors.HEADS},
}
EVERY = pytest.mark.parametrize('family', FAMILIES)


def build(family, **options):
    detector, on = FAMILIES[family]
    objective = dict(AIL, **({'on': on} if on == 'rpn' else {}), **options)
    model = tiny.distiller(detector(), detector(width=16), dict(ail=objective))
    tiny.shake(model.student)
    return model


def answers(kind, student=STUDENT, teacher=TEACHER, targets=TARGETS, sampled=6, weights=(1.0,)):
    """Return what both sides would show of a head for each weight; the first rows are the positives."""
    positive = torch.arange(len(targets))
    logits = torch.zeros(sampled, 2)

    def sample(weight):
        if kind == 'rpn':
            return AnchorSample(torch.arange(sampled), positive, targets, ((1, 1),), per_image=sampled)
        return RoISample(torch.zeros(sampled, 5), positive, torch.zeros_like(positive), targets, weight)

    samples = list(map(sample, weights))
    ours, theirs = ([BoxOpinion(logits, deltas, one) for one in samples] for deltas in (student, teacher))
    return Answer({}, {kind: samples}, {kind: ours}), Answer({}, {}, {kind: theirs})


def objective_on(kind, **options):
    objective = AttentiveBoxObjective(on=kind, **options)
    objective.kinds = frozenset({kind})
    return objective


def in_step(model, data):
    """Return what both sides show in one step, and its losses."""
    heard = {}
    handle = model.objectives.ail.register_forward_hook(lambda module, inputs, output: heard.update(inputs=inputs))
    losses = tiny.step(model, data)
    handle.remove()
    return *heard['inputs'], losses


@pytest.mark.parametrize('clamp, terms', [(False, [0.00958333, 0.00625, -0.00375]), (True, [0.00958333, 0.00625, 0])])
@pytest.mark.parametrize('kind', ['roi', 'rpn'])
def test_example_13_over_all_sampled_boxes(kind, clamp, terms):
    """The η of the example is that of its three samples, as the running range finds it."""
    for error_range in (0.24, 'running'):
        objective = objective_on(kind, clamp=clamp, error_range=error_range)
        losses = objective(*answers(kind))
        assert losses.keys() == {'loss_bbox'}
        assert losses['loss_bbox'].item() == pytest.approx(0.5 * sum(terms) / 6, rel=1e-5)


def test_stages_of_a_cascade_have_their_weights_and_one_range():
    objective = objective_on('roi', alpha=0.2)
    seen, taught = answers('roi', weights=(1.0, 0.5))
    taught.opinions['roi'][1] = BoxOpinion(torch.zeros(6, 2), 2 * TEACHER, seen.samples['roi'][1])
    losses = objective(seen, taught)
    errors = np.array([[0.01, 0.09, 0.25], [0.04, 0.36, 1]])
    distances = np.array([[0.01, 0.01, 0.09], [0, 0.16, 0.64]])
    attention = (1 - errors / 0.99).clip(0, 1)
    expected = 0.8 * (attention * distances).sum(1) / 6 * [1, 0.5]
    np.testing.assert_allclose([losses['s0.loss_bbox'], losses['s1.loss_bbox']], expected, rtol=1e-5)
    np.testing.assert_allclose(objective.teacher_errors(seen, taught), errors.flatten(), rtol=1e-5)


@EVERY
def test_every_head_by_hand(family):
    """Positives and the average are those of the head's own box loss."""
    model = build(family, alpha=0.25, error_range=WIDE)
    seen, taught, losses = in_step(model, tiny.detection_data())
    kind = FAMILIES[family][1]
    for stage, (sample, own, other) in enumerate(
        zip(seen.samples[kind], seen.opinions[kind], taught.opinions[kind], strict=True)
    ):
        prefix = f's{stage}.' if family == 'cascade r-cnn' else ''
        error = (other.deltas - sample.targets).square().sum(1)
        distance = (own.deltas - other.deltas).square().sum(1)
        count = len(sample.positive) if kind == 'dense' else sample.num_sampled
        expected = 0.75 * getattr(sample, 'weight', 1.0) * ((1 - error / WIDE).clamp(0, 1) * distance).sum() / count
        value = losses[f'distill.ail.{prefix}loss_bbox']
        assert value.item() > 0
        torch.testing.assert_close(value.detach(), expected.detach(), rtol=1e-4, atol=1e-7)


@EVERY
def test_alpha_scales_the_heads_own_box_losses(family):
    kind = FAMILIES[family][1]
    model = build(family, alpha=0.25)
    data = tiny.detection_data()
    torch.manual_seed(0)  # of the samplers
    losses = tiny.step(model, data)
    again = build(family, alpha=0.25).student.train()
    torch.manual_seed(0)
    plain = again(**again.data_preprocessor(data, True), mode='loss')
    scaled = {
        'roi': {'loss_bbox', 's0.loss_bbox', 's1.loss_bbox', 's2.loss_bbox'},
        'rpn': {'loss_rpn_bbox'},
        'dense': {'loss_bbox', 'loss_dfl'},
    }[kind]
    assert scaled & plain.keys()
    for name, value in plain.items():
        factor = 0.25 if name in scaled else 1
        torch.testing.assert_close(tiny.total({name: losses[name]}), factor * tiny.total({name: value}), msg=name)


@EVERY
def test_only_the_student_learns(family):
    model = build(family, error_range=WIDE)
    losses = tiny.step(model, tiny.detection_data())
    sum(value for name, value in losses.items() if name.startswith('distill.')).backward()
    assert model.student.backbone.conv1.weight.grad.any()
    assert all(parameter.grad is None for parameter in model.teachers['teacher'].model.parameters())


@EVERY
def test_images_without_boxes_are_a_zero_that_back_propagates(family):
    model = build(family)
    losses = tiny.step(model, tiny.detection_data(boxes=((), ())))
    own = [value for name, value in losses.items() if name.startswith('distill.')]
    assert own
    assert not any(value.item() for value in own)
    sum(own).backward()
    error_range = model.objectives.ail.error_range
    assert torch.isinf(error_range.least)  # nothing was seen yet


def test_the_running_range_moves_in_training_and_is_kept():
    model = build('fcos')
    seen, taught, _ = in_step(model, tiny.detection_data())
    errors = model.objectives.ail.teacher_errors(seen, taught)
    error_range = model.objectives.ail.error_range
    torch.testing.assert_close(error_range.least, errors.min())
    torch.testing.assert_close(error_range.greatest, errors.max())
    state = model.state_dict()
    assert not any('error_range' in key for key in state)
    other = build('fcos')
    other.load_state_dict(state)
    torch.testing.assert_close(other.objectives.ail.error_range.greatest, errors.max())
    model.eval()
    model(**model.data_preprocessor(tiny.detection_data(boxes=(tiny.BOXES[:1], tiny.BOXES[2:])), True), mode='loss')
    torch.testing.assert_close(error_range.greatest, errors.max())


def test_a_file_of_another_run_stops_before_the_first_step(tmp_path):
    path = str(tmp_path / 'errors.json')
    write_teacher_errors(
        path, TeacherErrors.of(WIDE * torch.rand(9), 'CocoDataset bccd train.json', 'untrained', BOX_ERROR)
    )
    model = build('retinanet', error_range=path, percentile=99)
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', 0)
    hub.update_info('max_iters', 10)
    hub.update_info('cfg', CONFIG.replace('train.json', 'val.json'))
    model.init_weights()  # as a runner does, which has told of itself by then
    with pytest.raises(
        ValueError, match=r"objectives.ail: error_range: .*'CocoDataset bccd train.json', and this run's is"
    ):
        tiny.step(model, tiny.detection_data())
    model = build('retinanet', error_range=path, percentile=99)
    hub.update_info('cfg', CONFIG)
    model.init_weights()
    assert tiny.step(model, tiny.detection_data())['distill.ail.loss_bbox'].item() > 0


def test_half_precision():
    model = build('gfl', error_range=WIDE)
    expected = tiny.step(model, tiny.detection_data())['distill.ail.loss_bbox']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = tiny.step(model, tiny.detection_data())['distill.ail.loss_bbox']
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=0.2, atol=1e-3)


def test_off_means_off():
    assert AttentiveBoxObjective(alpha=1).is_off
    assert AttentiveBoxObjective(weight=0).is_off
    assert not AttentiveBoxObjective().is_off


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match=r'objectives.ail.alpha must lie in \[0, 1\], got -1'):
        build('fcos', alpha=-1)
    with pytest.raises(ValueError, match="objectives.ail.on must be 'roi', 'rpn' or 'dense', got 'boxes'"):
        build('fcos', on='boxes')
    with pytest.raises(ValueError, match=r'objectives.ail: student \(FCOS\) has no RoI head'):
        build('fcos', on='roi')
    with pytest.raises(ValueError, match='objectives.ail.error_range must be at least 0, got -0.5'):
        build('fcos', error_range=-0.5)
    with pytest.raises(ValueError, match=r"objectives.ail.error_range: '.*' is no file of teacher errors"):
        build('fcos', error_range=str(tmp_path / 'errors.json'))
    write_teacher_errors(tmp_path / 'errors.json', TeacherErrors.of(torch.rand(9), 'x', 'y', 'metres'))
    with pytest.raises(ValueError, match=r"objectives.ail.error_range: '.*' holds errors in 'metres', this needs"):
        build('fcos', error_range=str(tmp_path / 'errors.json'))


def test_errors_are_measured_before_and_taken_by_the_training(detector, tmp_path):
    from kddense.objectives.ail.prepass import measure_teacher_errors

    path = str(tmp_path / 'errors.json')
    config = detector.distilled(objectives=dict(ail=dict(AIL, error_range=path, percentile=90)))
    errors = measure_teacher_errors(config)
    write_teacher_errors(path, errors)
    assert errors.count > 20  # RoIs of eight images, their boxes of the ground truth among them
    assert errors.measure == BOX_ERROR
    assert errors.teacher.startswith('teacher.pth (')
    config.train_cfg.max_epochs = 1
    runner = detector.train(config, tmp_path / 'run')
    objective = runner.model.objectives.ail
    assert objective.error_range(torch.zeros(0)).item() == pytest.approx(errors.range(90))
    assert not objective.state_dict()

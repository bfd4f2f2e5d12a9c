"""Localization distillation on tiny GFL detectors: regions by hand, averages, zeros, build errors."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torchvision.ops import distance_box_iou

from kddense.exchange import Answer
from kddense.losses import atss_thresholds, localization_distillation
from kddense.objectives import LDObjective, base
from kddense.objectives.ld import region_of

from ..helpers import detectors, tiny

ALL = dict(type='kddense.LDObjective', class_weight=1.0)


def build(objective=ALL, student=None, teacher=None, **options):
    student = student or detectors.one_stage('gfl')
    model = tiny.distiller(student, teacher or detectors.one_stage('gfl', width=16), dict(ld=objective), **options)
    tiny.shake(model.student)
    return model


@pytest.fixture(scope='module')
def distiller():
    return build()


def answers(model, data):
    """Return what both sides show in one step."""
    heard = {}
    handle = model.objectives.ld.register_forward_hook(lambda module, inputs, output: heard.update(inputs=inputs))
    tiny.step(model, data)
    handle.remove()
    return heard['inputs']


def test_the_region_by_a_loop_over_images(distiller):
    seen, _ = answers(distiller, tiny.detection_data())
    (sample,) = seen.samples['dense']
    per_image = len(sample.priors)
    expected = {}
    for number, boxes in enumerate(sample.ground_truth):
        places = [
            int(i) - number * per_image for i in sample.index if number * per_image <= i < (number + 1) * per_image
        ]
        edges = [0]
        for height, width in sample.level_sizes:
            edges.append(edges[-1] + height * width)
        counts = [sum(low <= place < high for place in places) for low, high in itertools.pairwise(edges)]
        anchors = sample.priors[places]
        thresholds = atss_thresholds(anchors, boxes, counts)
        distance = distance_box_iou(anchors, boxes)
        for row, place in enumerate(places):
            inside = [box for box in range(len(boxes)) if 0.25 <= distance[row, box] / thresholds[box] < 1]
            if inside:
                expected[number * per_image + place] = inside
    rows, weight = region_of(sample)
    assert sample.index[rows].tolist() == list(expected)
    assert 0 < len(rows) < len(sample.index)
    assert ((weight > 0) & (weight < 1)).all()


def test_padding_is_in_no_region(distiller):
    """The second image is padded to 64 pixels for the network, and from there to the batch: nothing is learned there."""
    seen, _ = answers(distiller, tiny.detection_data(sizes=((64, 128), (64, 40))))
    (sample,) = seen.samples['dense']
    rows, _ = region_of(sample)
    second = sample.index[rows] // len(sample.priors) == 1
    anchors = sample.priors[sample.index[rows][second] % len(sample.priors)]
    assert len(anchors)
    assert ((anchors[:, 0] + anchors[:, 2]) / 2 < 64).all()


def test_weighted_means_by_hand(distiller):
    seen, taught = answers(distiller, tiny.detection_data())
    (sample,), (own,), (other,) = seen.samples['dense'], seen.opinions['dense'], taught.opinions['dense']
    losses = LDObjective(main_weight=2, region_weight=3)(seen, taught)
    rows, overlap = region_of(sample)
    score = own.logits.sigmoid().amax(1)[sample.positive]
    for name, factor, index, weight in (
        ('loss_main', 2, sample.index[sample.positive], score),
        ('loss_region', 3, sample.index[rows], overlap),
    ):
        per_box = localization_distillation(own.distributions_at(index), other.distributions_at(index))
        expected = factor * (weight * per_box).sum() / weight.sum().clamp(min=1)
        torch.testing.assert_close(losses[name], expected.detach(), check_dtype=False)
    assert losses.keys() == {'loss_main', 'loss_region'}


def test_the_same_network_teaches_nothing():
    twin = build(teacher=detectors.one_stage('gfl'))
    twin.teachers['teacher'].model.load_state_dict(twin.student.state_dict())
    twin.student.eval()  # batch statistics, which a teacher does not use
    batch = twin.data_preprocessor(tiny.detection_data(), True)
    losses = twin(**batch, mode='loss')
    for name in ('loss_main', 'loss_region', 'loss_cls'):
        assert losses[f'distill.ld.{name}'].item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize('mode', ['paper', 'code'])
def test_images_without_boxes_are_a_zero_that_back_propagates(mode):
    model = build(dict(ALL, mode=mode))
    losses = tiny.step(model, tiny.detection_data(boxes=((), ())))
    own = [value for name, value in losses.items() if name.startswith('distill.')]
    assert len(own) == 3
    assert [value.item() for value in own] == [0, 0, 0]
    sum(own).backward()
    assert not model.student.bbox_head.gfl_reg.weight.grad.any()


def test_gradients_reach_the_student_alone():
    model = build()
    losses = tiny.step(model, tiny.detection_data())
    sum(losses[f'distill.ld.{name}'] for name in ('loss_main', 'loss_region')).backward()
    assert model.student.bbox_head.gfl_reg.weight.grad.any()
    assert model.student.backbone.conv1.weight.grad.any()
    assert model.student.bbox_head.gfl_cls.weight.grad is None  # scores weigh, they do not learn here
    assert all(p.grad is None for p in model.teachers['teacher'].model.parameters())


def test_under_autocast_it_is_about_the_same(distiller):
    expected = tiny.step(distiller, tiny.detection_data())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = tiny.step(distiller, tiny.detection_data())
    for name in ('loss_main', 'loss_region', 'loss_cls'):
        assert losses[f'distill.ld.{name}'].dtype == torch.float32
        torch.testing.assert_close(losses[f'distill.ld.{name}'], expected[f'distill.ld.{name}'], rtol=0.3, atol=1e-3)


def test_two_halves_are_one_batch(distiller, monkeypatch):
    """Each process divides by the mean of both divisors: the mean of their losses is that of the whole batch."""
    whole = answers(distiller, tiny.detection_data())
    objective = LDObjective(class_weight=1.0)
    expected = objective(*whole)
    halves = [_only(whole, number) for number in range(2)]
    numbers = []
    monkeypatch.setattr(base, 'all_reduce', lambda number, op: numbers.append(number.clone()))
    for half in halves:
        objective(*half)
    shared = iter([(first + second) / 2 for first, second in zip(numbers[:3], numbers[3:], strict=True)] * 2)
    monkeypatch.setattr(base, 'all_reduce', lambda number, op: number.copy_(next(shared)))
    losses = [objective(*half) for half in halves]
    for name, value in expected.items():
        torch.testing.assert_close((losses[0][name] + losses[1][name]) / 2, value, check_dtype=False)


def _only(both, number):
    """Return what a process would have that was given one of two images."""
    seen, taught = both
    (sample,), (own,), (other,) = seen.samples['dense'], seen.opinions['dense'], taught.opinions['dense']
    per_image = len(sample.priors)
    here = (sample.index // per_image == number).nonzero().squeeze(1)
    labels = sample.labels[here]
    positive = (labels < sample.num_classes).nonzero().squeeze(1)
    kept = [row in here for row in sample.positive]
    sample = replace(
        sample,
        index=sample.index[here] - number * per_image,
        labels=labels,
        positive=positive,
        targets=sample.targets[kept],
        ground_truth=sample.ground_truth[number : number + 1],
    )
    opinions = [
        replace(
            one,
            sample=sample,
            score_maps=tuple(level[number : number + 1] for level in one.score_maps),
            box_maps=tuple(level[number : number + 1] for level in one.box_maps),
        )
        for one in (own, other)
    ]
    return Answer({}, {'dense': [sample]}, {'dense': opinions[:1]}), Answer({}, {}, {'dense': opinions[1:]})


def test_off_means_off():
    assert LDObjective(main_weight=0, region_weight=0).is_off
    assert not LDObjective(main_weight=0, region_weight=0, class_weight=1).is_off
    assert not LDObjective().compares_classes
    assert LDObjective(class_weight=1).compares_classes


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'objectives.ld: student \(FCOS\) learns no distributions of distances'):
        build(student=detectors.one_stage('fcos'), teacher=detectors.one_stage('fcos'))
    with pytest.raises(ValueError, match=r'objectives.ld: .*bbox_head.reg_max: 16 in the student, 8 in the teacher'):
        build(teacher=detectors.one_stage('gfl', {'bbox_head.reg_max': 8}))
    with pytest.raises(ValueError, match=r'objectives.ld: student \(FasterRCNN\) has no'):
        build(student=tiny.faster_rcnn(), teacher=tiny.faster_rcnn())
    with pytest.raises(ValueError, match="mode must be one of 'paper', 'code', got 'mean'"):
        LDObjective(mode='mean')
    with pytest.raises(ValueError, match='region_weight must be at least 0, got -1'):
        LDObjective(region_weight=-1)
    with pytest.raises(ValueError, match='topk must be above 0, got 0'):
        LDObjective(topk=0)
    with pytest.raises(ValueError, match='temperature must be above 0, got 0'):
        LDObjective(temperature=0)

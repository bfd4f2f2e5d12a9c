"""CrossKD on tiny RetinaNet, FCOS, ATSS and GFL: what crosses, values of the terms, where gradients go, what is refused."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps
from torch.nn import functional as F

from kddense.losses import localization_distillation, matched_statistics, quality_focal_divergence

from ..helpers import detectors, plugins, tiny

HEADS = ('retinanet', 'fcos', 'atss', 'gfl')
DATA = tiny.detection_data()
PREDICTORS = dict(
    retinanet=('retina_cls', 'retina_reg'),
    fcos=('conv_cls', 'conv_reg'),
    atss=('atss_cls', 'atss_reg'),
    gfl=('gfl_cls', 'gfl_reg'),
)


def detector(head, *changes, convolutions=2, **options):
    return detectors.one_stage(head, {'bbox_head.stacked_convs': convolutions}, *changes, **options)


def build(head='retinanet', student=None, teacher=None, options=None, **others):
    """Build a distiller; ``options`` are the teacher's."""
    teacher = teacher or detector(head, width=12)
    teacher = tiny.teacher_of(teacher, **(options or {}))
    objective = dict(type='kddense.CrossKDObjective', **others)
    return tiny.distiller(student or detector(head), teacher, dict(cross=objective))


def answers(model, data=DATA):
    """Run a step; return its losses, and what both sides showed."""
    heard = []
    handle = model.objectives['cross'].register_forward_pre_hook(lambda module, inputs: heard.append(inputs))
    losses = tiny.step(model, data)
    handle.remove()
    return {name: value for name, value in losses.items() if 'distill' in name}, *heard[0]


def through_the_teacher(head, model, seen, layer):
    """Return class scores and boxes in the head's raw form, level by level, computed with the teacher's layers by hand."""
    teacher = model.teachers['teacher'].model
    with torch.no_grad():
        levels = teacher.extract_feat(model.data_preprocessor(copy.deepcopy(DATA), True)['inputs'])
    found = []
    for branch, predictor in zip(('cls', 'reg'), PREDICTORS[head], strict=True):
        convs, last = getattr(teacher.bbox_head, f'{branch}_convs'), getattr(teacher.bbox_head, predictor)
        tap = f'bbox_head.{branch}_convs.{layer - 1}.activate:input:copy' if layer else 'bbox_head:input'
        outputs = []
        for number, (own, other) in enumerate(zip(seen.taps[tap], levels, strict=True)):
            for conv in convs[: layer - 1] if layer else []:
                other = conv(other)
            other = convs[layer - 1](other, activate=False) if layer else other
            crossed = matched_statistics(own, other)
            crossed = crossed.relu() if layer else crossed
            for conv in convs[layer:]:
                crossed = conv(crossed)
            scale = teacher.bbox_head.scales[number] if branch == 'reg' and head != 'retinanet' else 1
            outputs.append(last(crossed) * getattr(scale, 'scale', scale))
        found.append(outputs)
    return found


def rows(levels, channels):
    """Return the rows of all places, image by image."""
    flat = [level.permute(0, 2, 3, 1).reshape(len(level), -1, channels) for level in levels]
    return torch.cat(flat, dim=1).flatten(0, 1)


@pytest.mark.parametrize('layer', [0, 1, 2])
@pytest.mark.parametrize('head', HEADS)
def test_values_of_the_terms(head, layer):
    """By plain loops over the teacher's own modules, at the places that the student's loss looks at."""
    model = build(head, layer=layer, classes=2.0, boxes=3.0, centerness=5.0)
    losses, seen, taught = answers(model)
    (sample,), (other,) = seen.samples['dense'], taught.opinions['dense']
    scores, boxes = through_the_teacher(head, model, seen, layer)
    own, their = rows(scores, 3)[sample.index], other.logits
    average = max(sample.num_positive, 1)
    if head == 'fcos':
        average = float(model.student.bbox_head.centerness_target(sample.targets).sum().clamp(min=1))
    expected = 2 * quality_focal_divergence(own, their, average=average)
    torch.testing.assert_close(losses['distill.cross.loss_cls'], expected)

    weight = their.sigmoid().amax(1)
    if head == 'gfl':
        edges = rows(boxes, 4 * 17)[sample.index].unflatten(1, (4, 17))
        divergence = localization_distillation(edges, other.distributions_at(sample.index), temperature=1.0)
        expected = (weight * divergence).sum() / weight.sum().clamp(min=1)
    else:
        overlap = box_overlap(head, model, sample, boxes, other)
        expected = (weight * (1 - overlap)).sum() / average
    torch.testing.assert_close(losses['distill.cross.loss_box'], 3 * expected)
    assert ('distill.cross.loss_centerness' in losses) == (head in ('fcos', 'atss'))


def box_overlap(head, model, sample, boxes, other):
    """Return the GIoU of both sides' boxes in pixels, decoded as the head does."""
    student = model.student.bbox_head
    raw = boxes
    if head == 'fcos':
        raw = [level.exp() for level in boxes]
    anchors = sample.priors[sample.index % len(sample.priors)]
    theirs = other.deltas_at(sample.index)
    if head == 'fcos':
        sizes = [h * w for h, w in sample.level_sizes]
        strides = torch.cat([torch.full((n, 1), float(s)) for n, s in zip(sizes, sample.strides, strict=True)])
        theirs = theirs * strides[sample.index % len(sample.priors)]
    decoded = [student.bbox_coder.decode(anchors, side) for side in (rows(raw, 4)[sample.index], theirs)]
    return bbox_overlaps(*decoded, mode='giou', is_aligned=True)


@pytest.mark.parametrize('head', ['fcos', 'atss'])
def test_centerness_at_the_positives(head):
    model = build(head, layer=1)
    losses, seen, taught = answers(model)
    (sample,) = seen.samples['dense']
    teacher = model.teachers['teacher'].model.bbox_head
    predictor = teacher.atss_centerness if head == 'atss' else teacher.conv_centerness
    branch = 'reg' if head == 'atss' else 'cls'  # FCOS as it is by default
    levels = []
    taps = (side.taps[f'bbox_head.{branch}_convs.0.activate:input:copy'] for side in (seen, taught))
    for own, other in zip(*taps, strict=True):
        levels.append(predictor(getattr(teacher, f'{branch}_convs')[1](matched_statistics(own, other).relu())))
    places = sample.index[sample.positive]
    own, other = rows(levels, 1)[places], rows(taught.taps['bbox_head'][2], 1)[places].sigmoid()
    average = sample.num_positive
    if head == 'fcos':
        average = model.student.bbox_head.centerness_target(sample.targets).sum().clamp(min=1)
    expected = F.binary_cross_entropy_with_logits(own, other, reduction='sum') / average
    torch.testing.assert_close(losses['distill.cross.loss_centerness'], expected)


OPTIONS = [{}, dict(precision='bf16'), dict(precision='bf16', channels_last=True)]


@pytest.mark.parametrize('options', OPTIONS, ids=['fp32', 'bf16', 'bf16, channels last'])
@pytest.mark.parametrize('head', HEADS)
def test_gradients_reach_what_lies_before_and_nothing_of_the_teacher(head, options):
    model = build(head, options=options, layer=1)
    before = {key: value.clone() for key, value in model.teachers['teacher'].state_dict().items()}
    found = plugins.gradients(model, DATA)
    assert {key.split('.')[1] + key.split('.')[2] for key in found if key.startswith('bbox_head')} == {
        'cls_convs0',
        'reg_convs0',
    }
    assert 'backbone.layer2.0.conv1.weight' in found
    plugins.train(model, DATA)
    after = model.teachers['teacher'].state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    plugins.assert_contracts(model, detector(head), rebuild=lambda: build(head, options=options, layer=1))


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_it_trains_in_mixed_precision(precision):
    options = dict(precision=precision)
    logs = plugins.train(build(options=options), DATA, type='AmpOptimWrapper', dtype='bfloat16')
    wide = plugins.train(build(options=options), DATA)
    for key in ('distill.cross.loss_cls', 'distill.cross.loss_box'):
        assert logs[0][key] == pytest.approx(wide[0][key], rel=0.05)


@pytest.mark.parametrize('head', HEADS)
def test_twins_have_no_loss(head):
    """But for the 1e-6 by which deviations differ; an overlap of boxes with themselves is 1 up to its own rounding."""
    model = build(head, teacher=detector(head), centerness=0.0)
    plugins.make_twins(model)
    losses = {name: float(value) for name, value in plugins.losses_of(model, DATA).items() if 'distill' in name}
    assert losses == pytest.approx(dict.fromkeys(losses, 0.0), abs=1e-3)


@pytest.mark.parametrize('head, depth, layer', [('gfl', 4, 3), ('fcos', 4, 2), ('atss', 2, 1), ('retinanet', 1, 0)])
def test_where_it_crosses_by_default(head, depth, layer):
    shape = dict(convolutions=depth)
    model = build(head, detector(head, **shape), detector(head, **shape))
    assert model.objectives['cross'].layer == layer
    assert plugins.gradients(model, DATA)


def test_towers_of_other_depths_and_widths_cross():
    teacher = detector('gfl', {'bbox_head.feat_channels': 24}, convolutions=4)
    model = build('gfl', detector('gfl', convolutions=1), teacher, layer=3, student_layer=1)
    assert {name for name, _ in model.objectives.named_parameters()} == {
        f'cross.connectors.{branch}.conv.{kind}' for branch in ('cls', 'reg') for kind in ('weight', 'bias')
    }
    tiny.total(tiny.step(model, DATA)).backward()
    assert all(one.grad.any() for one in model.objectives.parameters())


def test_iou_is_another_choice():
    giou, iou = (answers(build('fcos', overlap=overlap))[0] for overlap in ('giou', 'iou'))
    assert giou['distill.cross.loss_box'] != iou['distill.cross.loss_box']
    assert giou['distill.cross.loss_cls'] == iou['distill.cross.loss_cls']


def test_a_teacher_of_more_classes():
    teacher = detector('retinanet', classes=5, width=12)
    model = build('retinanet', teacher=teacher, options=dict(class_map=[4, 0, 2]), layer=1)
    losses, seen, taught = answers(model)
    (sample,), (other,) = seen.samples['dense'], taught.opinions['dense']
    scores, _ = through_the_teacher('retinanet', model, seen, 1)
    own = rows(scores, 5)[sample.index][:, [4, 0, 2]]
    expected = quality_focal_divergence(own, other.logits, average=sample.num_positive)
    torch.testing.assert_close(losses['distill.cross.loss_cls'], expected)


@pytest.mark.parametrize('head', HEADS)
def test_images_without_boxes_train(head):
    losses, *_ = answers(build(head), tiny.detection_data(boxes=((), ())))
    tiny.total(losses).backward()
    assert all(value.isfinite() for value in losses.values())


def test_no_place_is_a_zero_that_back_propagates():
    for head in HEADS:
        model = build(head)
        _, seen, taught = answers(model)
        (sample,), (other,) = seen.samples['dense'], taught.opinions['dense']
        empty = torch.zeros(0, dtype=torch.long)
        sample = replace(sample, index=empty, labels=empty, positive=empty, targets=torch.zeros(0, 4))
        seen = replace(seen, samples=dict(dense=[sample]))
        taught = replace(taught, opinions=dict(dense=[replace(other, sample=sample)]))
        losses = model.objectives['cross'](seen, taught)
        tiny.total(losses).backward()
        assert [float(value) for value in losses.values()] == [0.0] * len(losses)


@pytest.mark.parametrize(
    'student, teacher, options, sentence',
    [
        (
            'retinanet',
            'gfl',
            {},
            'CrossKD needs the same head on both sides, the student has RetinaHead and the teacher GFL',
        ),
        (
            'rtmdet',
            'rtmdet',
            {},
            r'student.bbox_head is a RTMDetSepBNHead: CrossKD knows where to enter RetinaHead, FCOS',
        ),
        ('atss', 'atss', dict(layer=3), r'layer must be one of 0..2, as the towers have 2 convolutions, got 3'),
        ('atss', 'atss', dict(layer=1, student_layer=-1), r'student_layer must be one of 0..2, as the towers have 2 '),
        ('atss', 'atss', dict(boxes=-1), 'boxes must be at least 0, got -1'),
        ('atss', 'atss', dict(beta=0.5), 'beta must be at least 1, got 0.5'),
        ('atss', 'atss', dict(overlap='diou'), "overlap must be one of 'giou', 'iou', got 'diou'"),
    ],
)
def test_what_cannot_cross_is_refused(student, teacher, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(student=detector(student), teacher=detector(teacher), **options)


def test_a_part_of_the_teacher_is_applied_as_it_is():
    model = build(layer=1)
    _, seen, taught = answers(model)
    head = model.teachers['teacher'].model.bbox_head
    feature = torch.rand(1, 16, 4, 4)
    found = taught.through('bbox_head.retina_cls', taught.through('bbox_head.cls_convs[1:]', feature))
    torch.testing.assert_close(found, head.retina_cls(head.cls_convs[1](feature)))
    nearest = "has no part 'bbox_head.retina_cl'; the nearest names are 'bbox_head.retina_cls'"
    with pytest.raises(ValueError, match=nearest):
        taught.through('bbox_head.retina_cl', feature)
    with pytest.raises(ValueError, match="needs the answer of a teacher, this one is the student's"):
        seen.through('bbox_head.retina_cls', feature)


def test_two_stage_detectors_and_ensembles_are_refused():
    objectives = dict(cross=dict(type='kddense.CrossKDObjective'))
    with pytest.raises(
        ValueError, match=r'student \(FasterRCNN\) has no dense head to enter: CrossKD needs a one-stage'
    ):
        tiny.distiller(tiny.faster_rcnn(), tiny.faster_rcnn(), objectives)
    members = [tiny.teacher_of(detector('atss', width=width)) for width in (8, 12)]
    with pytest.raises(ValueError, match='CrossKD needs a one-stage detector, and one alone as the teacher'):
        tiny.distiller(detector('atss'), dict(type='kddense.EnsembleTeacher', members=members), objectives)

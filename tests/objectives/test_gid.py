"""GID on tiny one-stage detectors: instances, values of the terms, images without any, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import roi_align

from kddense.losses import general_instances, instance_distance, instance_relation, near_instances

from ..helpers import detectors, plugins, tiny

DATA = tiny.detection_data(sizes=((128, 128), (120, 96)))


def build(head='retinanet', student=None, teacher=None, **options):
    teacher = teacher or detectors.one_stage(head, width=12, fpn=24)
    objectives = dict(gid=dict(type='kddense.GIDObjective', **options))
    model = tiny.distiller(student or detectors.one_stage(head), teacher, objectives)
    tiny.shake(model.student)
    return model


def step(model, data=DATA):
    """Run a step; return the objective's losses, and what it was given."""
    given = []
    handle = model.objectives['gid'].register_forward_pre_hook(lambda module, inputs: given.append(inputs))
    losses = tiny.step(model, data)
    handle.remove()
    return {name: value for name, value in losses.items() if 'distill' in name}, *given[0]


def all_places(opinion, sample):
    """Return logits and boxes of all places, image by image, in the head's own space."""
    places = torch.arange(2 * len(sample.priors))
    return [side.unflatten(0, (2, -1)) for side in (opinion.logits_at(places), opinion.deltas_at(places))]


def in_pixels(head, model, sample, boxes):
    """Decode one image's boxes by the student's coder."""
    coder = model.student.bbox_head.bbox_coder
    if head in ('retinanet', 'atss'):
        return coder.decode(sample.priors, boxes)
    corners = []
    first = 0
    for (height, width), stride in zip(sample.level_sizes, sample.strides, strict=True):
        priors = sample.priors[first : first + height * width]
        points = (priors[:, :2] + priors[:, 2:]) / 2 if priors.shape[1] == 4 else priors
        distances = boxes[first : first + height * width] * stride
        corners.append(torch.cat([points - distances[:, :2], points + distances[:, 2:]], dim=1))
        first += height * width
    return torch.cat(corners)


def level_of(box, levels, finest):
    side, level = ((box[2] - box[0]) * (box[3] - box[1])) ** 0.5, 0
    while side >= 2 * 14 * finest * 2**level and level < levels - 1:
        level += 1
    return level


@pytest.mark.parametrize('head', detectors.HEADS)
def test_values_of_the_terms(head):
    """Image by image and instance by instance."""
    options = dict(most=4, smallest=1.0, overlap=0.5, cells=3, feature=2.0, relation=3.0, classes=5.0, boxes=7.0)
    model = build(head, **options)
    losses, seen, taught = step(model)
    (sample,) = seen.samples['dense']
    (own_logits, own_boxes), (logits, boxes) = (
        all_places(side.opinions['dense'][0], sample) for side in (seen, taught)
    )
    layer = model.objectives['gid'].connectors[0]
    ours, theirs = [layer(level) for level in seen.taps['neck']], taught.taps['neck']
    crops, terms, count = ([], []), [0.0, 0.0], 0
    for image, size in enumerate(((128, 128), (120, 96))):
        found = general_instances(
            (own_logits[image], in_pixels(head, model, sample, own_boxes[image])),
            (logits[image], in_pixels(head, model, sample, boxes[image])),
            size,
            most=4,
            smallest=1.0,
            overlap=0.5,
        )
        assert 1 < len(found) <= 4
        assert (found[:, 2] <= size[1]).all()
        assert (found[:, 3] <= size[0]).all()
        for box in found:
            level = level_of(box.tolist(), len(ours), sample.strides[0])
            roi = torch.cat([torch.tensor([float(image)]), box])[None]
            for side, maps in zip(crops, (ours, theirs), strict=True):
                scale = maps[level].shape[-1] / 128
                side.append(roi_align(maps[level], roi, (3, 3), scale, sampling_ratio=2, aligned=True)[0])
        chosen = belonging(sample, found)
        count += int(chosen.sum())
        terms[0] += F.binary_cross_entropy_with_logits(
            own_logits[image][chosen], logits[image][chosen].sigmoid(), reduction='sum'
        )
        terms[1] += (own_boxes[image][chosen] - boxes[image][chosen]).abs().sum()
    own, other = (torch.stack(side) for side in crops)
    expected = [2 * instance_distance(own, other), 3 * instance_relation(own, other)]
    expected += [weight * term / max(count, 1) for weight, term in zip((5, 7), terms, strict=True)]
    found = [losses[f'distill.gid.loss_{name}'] for name in ('feature', 'relation', 'cls', 'box')]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def belonging(sample, instances):
    if sample.priors.shape[1] == 4:
        return near_instances(sample.priors, instances)
    chosen, first = [], 0
    for level, (height, width) in enumerate(sample.level_sizes):
        for x, y in sample.priors[first : first + height * width].tolist():
            inside = [
                x1 <= x <= x2 and y1 <= y <= y2
                for x1, y1, x2, y2 in instances.tolist()
                if level_of((x1, y1, x2, y2), len(sample.strides), sample.strides[0]) == level
            ]
            chosen.append(any(inside))
        first += height * width
    return torch.tensor(chosen)


@pytest.mark.parametrize('head', detectors.HEADS)
def test_every_head_trains(head):
    model = build(head, smallest=1.0)
    assert any(name.startswith('backbone') for name in plugins.gradients(model, DATA))
    plugins.train(model, DATA, lr=1e-5)
    plugins.assert_contracts(model, detectors.one_stage(head))
    assert len(list(model.objectives.parameters())) == 2, 'one layer for all levels'


def test_an_image_without_instances_trains():
    """None is as large as it is asked to be."""
    model = build(smallest=500.0)
    losses, *_ = step(model)
    tiny.total(losses).backward()
    assert [float(value) for value in losses.values()] == [0.0] * 4
    assert all(one.grad is not None for one in model.objectives.parameters())


def test_labels_do_not_matter_for_what_is_found():
    found = [
        step(build('fcos', smallest=1.0), tiny.detection_data(boxes=boxes))[0] for boxes in (((), ()), (tiny.BOXES, ()))
    ]
    assert found[0] == found[1]
    assert all(value > 0 for value in found[0].values())


def test_twins_have_no_loss():
    retinanet = detectors.one_stage('retinanet')
    model = build(student=retinanet, teacher=retinanet, connector='auto', classes=0.0)
    plugins.make_twins(model)
    losses = plugins.losses_of(model, DATA)
    own = [float(value) for name, value in losses.items() if 'distill' in name]
    assert own == pytest.approx([0.0] * 4, abs=1e-6)


def test_it_trains_in_mixed_precision():
    logs = plugins.train(build(), DATA, lr=1e-5, type='AmpOptimWrapper', dtype='bfloat16')
    assert all('distill.gid.loss_relation' in log for log in logs)


@pytest.mark.parametrize(
    'options, sentence',
    [
        (dict(most=0), 'most must be above 0, got 0'),
        (dict(overlap=2.0), 'overlap must be between 0 and 1, got 2.0'),
        (dict(relation=-1), 'relation must be at least 0, got -1'),
        (dict(smallest=-1), 'smallest must be at least 0, got -1'),
        (
            dict(tap='backbone'),
            ': GID has one adaptation layer for all levels, and they have 8 and 16 channels: tap a pyr',
        ),
    ],
)
def test_bad_options_are_refused(options, sentence):
    with pytest.raises(ValueError, match=rf'^objectives\.gid\.?{sentence}'):
        build(**options)


def test_what_has_no_dense_head_is_refused():
    with pytest.raises(ValueError, match='has no dense head; only one-stage detectors have one'):
        build(student=tiny.faster_rcnn(), teacher=tiny.faster_rcnn())

"""FGFI and DeFeat: where they imitate, values of their terms, what is refused."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.task_modules import AnchorGenerator

from kddense.losses import covered_mask, masked_imitation, near_object_mask, soft_target_divergence

from ..helpers import detectors, plugins, tiny

BOXES = ((8.0, 10.0, 20.0, 24.0), (2.0, 4.0, 126.0, 120.0))  # of the finest level, and of a coarse one
DATA = tiny.detection_data(sizes=((128, 128), (120, 96)), boxes=(BOXES, BOXES[:1]))
STUDENT, TEACHER = tiny.faster_rcnn(), tiny.faster_rcnn(width=12, fpn=24)


def build(kind, student=STUDENT, teacher=TEACHER, **options):
    return tiny.distiller(student, teacher, dict(it=dict(type=f'kddense.{kind}Objective', **options)))


def step(model, data=DATA):
    """Run a step; return the objective's losses, and what it was given."""
    given = []
    handle = model.objectives['it'].register_forward_pre_hook(lambda module, inputs: given.append(inputs))
    losses = tiny.step(model, data)
    handle.remove()
    own = {name.removeprefix('distill.it.'): value for name, value in losses.items() if 'distill' in name}
    return own, *given[0]


def levels_of_boxes(boxes, levels, finest):
    """Return the level of each box: that where it is 14 to 28 places long."""
    found = []
    for x1, y1, x2, y2 in boxes:
        side, level = ((x2 - x1) * (y2 - y1)) ** 0.5, 0
        while side >= 2 * 14 * finest * 2**level and level < levels - 1:
            level += 1
        found.append(level)
    return found


def test_a_box_counts_in_the_level_of_its_size():
    assert levels_of_boxes(BOXES, 5, 4) == [0, 1]


def test_values_of_fgfi():
    """By anchors made anew; the number of places is that of all levels together."""
    model = build('FGFI', weight=2.0, threshold=0.6)
    losses, seen, taught = step(model)
    generator = AnchorGenerator(scales=[4], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64])
    total = count = 0
    pyramids = zip(seen.taps['neck'], taught.taps['neck'], model.objectives['it'].connectors, strict=True)
    for number, (own, other, layer) in enumerate(pyramids):
        assert layer.conv.kernel_size == (3, 3)
        size = tuple(own.shape[2:])
        anchors = generator.single_level_grid_priors(size, number, device='cpu')
        masks = []
        for boxes in (BOXES, BOXES[:1]):
            here = [box for box, at in zip(boxes, levels_of_boxes(boxes, 5, 4), strict=True) if at == number]
            masks.append(near_object_mask(anchors, torch.tensor(here).reshape(-1, 4), size, 0.6))
        mask = torch.stack(masks)[:, None].float()
        total += masked_imitation(layer(own), other, mask, average=1)
        count += mask.sum()
    assert count > 0
    torch.testing.assert_close(losses['loss'], 2 * total / count)


def test_values_of_defeat():
    model = build('DeFeat', foreground=2.0, background=5.0, levels=[0, 1, 2])
    losses, seen, taught = step(model)
    expected = [0.0, 0.0]
    pyramids = zip(seen.taps['neck'][:3], taught.taps['neck'][:3], model.objectives['it'].connectors, strict=True)
    for number, (own, other, layer) in enumerate(pyramids):
        masks = []
        for boxes in (BOXES, BOXES[:1]):
            here = [box for box, at in zip(boxes, levels_of_boxes(boxes, 5, 4), strict=True) if at == number]
            masks.append(covered_mask(torch.tensor(here).reshape(-1, 4), (128, 128), tuple(own.shape[2:])))
        inside = torch.stack(masks)[:, None].expand_as(other)
        squares = (layer(own) - other).square() / 2
        for side, mask in enumerate((inside, ~inside)):
            expected[side] += squares[mask].sum() / max(int(mask.sum()), 1) / 3
    torch.testing.assert_close(losses['loss_foreground'], 2 * expected[0])
    torch.testing.assert_close(losses['loss_background'], 5 * expected[1])


def test_values_of_defeats_classes():
    model = build('DeFeatClass', positive=2.0, negative=3.0, temperature=2.0)
    losses, seen, taught = step(model)
    (sample,), (own,), (other,) = (side['roi'] for side in (seen.samples, seen.opinions, taught.opinions))
    others = [row for row in range(sample.num_sampled) if row not in sample.positive.tolist()]
    assert len(sample.positive)
    assert others
    for name, weight, rows in (('positive', 2, sample.positive), ('negative', 3, others)):
        expected = soft_target_divergence(own.logits[rows], other.logits[rows], 2.0)
        torch.testing.assert_close(losses[f'loss_{name}'], weight * expected)


def test_stages_of_a_cascade_add_up():
    losses, *_ = step(build('DeFeatClass', tiny.cascade_rcnn(), tiny.cascade_rcnn(width=12, fpn=24)))
    assert all(value > 0 for value in losses.values())


@pytest.mark.parametrize('kind', ['FGFI', 'DeFeat', 'DeFeatClass'])
def test_images_without_boxes_train(kind):
    model = build(kind)
    losses, *_ = step(model, tiny.detection_data(sizes=((64, 64), (64, 64)), boxes=((), ())))
    tiny.total(losses).backward()
    assert all(value.isfinite() for value in losses.values())
    assert float(losses.get('loss_background', losses.get('loss_negative', losses.get('loss')))) >= 0
    assert float(losses.get('loss_foreground', losses.get('loss_positive', losses.get('loss')))) == 0


@pytest.mark.parametrize('kind, head', [('FGFI', 'retinanet'), ('FGFI', 'atss'), ('DeFeat', 'fcos'), ('DeFeat', 'gfl')])
def test_one_stage_detectors(kind, head):
    model = build(kind, detectors.one_stage(head), detectors.one_stage(head, width=12, fpn=24))
    assert plugins.gradients(model, DATA)
    plugins.train(model, DATA, lr=1e-4)


def test_a_map_of_another_size_is_masked_alike():
    student = tiny.edit(TEACHER, {'backbone.strides': (1, 2, 2, 1)})
    losses, *_ = step(build('FGFI', STUDENT, student))
    assert losses['loss'] > 0


@pytest.mark.parametrize('kind', ['FGFI', 'DeFeat', 'DeFeatClass'])
def test_twins_have_no_loss(kind):
    options = {} if kind == 'DeFeatClass' else dict(connector='auto')
    model = build(kind, STUDENT, STUDENT, **options)
    plugins.make_twins(model)
    losses = plugins.losses_of(model, DATA)
    assert [float(value) for name, value in losses.items() if 'distill' in name] == pytest.approx(
        [0.0] * len(model.objectives['it'].loss_names), abs=1e-6
    )


def test_what_they_do_not_serve_is_refused():
    fcos = tiny.single_stage('fcos')
    with pytest.raises(ValueError, match=r'student \(FCOS\) has no anchors, whose overlap with boxes tells where FGFI'):
        build('FGFI', fcos, fcos)
    with pytest.raises(ValueError, match="tap 'backbone' holds 4 maps, and the student has anchors at 5 levels"):
        build('FGFI', tap='backbone')
    with pytest.raises(ValueError, match='RoI head; only two-stage detectors have one'):
        build('DeFeatClass', fcos, fcos)
    with pytest.raises(ValueError, match='^objectives.it.threshold must be between 0 and 1, got 7'):
        build('FGFI', threshold=7)
    with pytest.raises(ValueError, match='^objectives.it.negative must be at least 0, got -2'):
        build('DeFeatClass', negative=-2)
    pspnet = tiny.segmentor('pspnet_r50-d8')
    for kind in ('FGFI', 'DeFeat'):
        with pytest.raises(ValueError, match=rf'has no ground-truth boxes, by which {kind} weighs places'):
            tiny.distiller(pspnet, pspnet, dict(it=dict(type=f'kddense.{kind}Objective')), 'mmseg')

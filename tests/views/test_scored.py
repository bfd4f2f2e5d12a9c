"""Labels with scores: what is learned of a class weighs as much as the label's score."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from torch.nn import functional as F

from kddense.taps import Taps
from kddense.views.scored import weights_at

from ..helpers import detectors, tiny

TWO_STAGE = {'faster_rcnn': tiny.faster_rcnn, 'cascade_rcnn': tiny.cascade_rcnn}


def student(config):
    return tiny.build(dict(type='kddense.Distiller', student=config))


def scored(*scores):
    """Return images with two boxes each, that have these scores."""
    data = tiny.detection_data(sizes=[(64, 64)] * len(scores), boxes=[tiny.BOXES[:2]] * len(scores))
    for sample, own in zip(data['data_samples'], scores, strict=True):
        if own is not None:
            sample.gt_instances.scores = torch.tensor(own)
    return data


def losses_of(model, data):
    model.student.eval()
    torch.manual_seed(0)
    losses = model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')
    return {key: tiny.total({key: value}) for key, value in losses.items() if 'loss' in key}


@pytest.mark.parametrize('head', detectors.HEADS)
def test_scores_of_1_change_nothing(head):
    model = student(detectors.one_stage(head))
    plain, sure = (losses_of(model, scored(*scores)) for scores in ([None, None], [(1.0, 1.0), None]))
    assert plain.keys() == sure.keys()
    for key, value in plain.items():
        torch.testing.assert_close(sure[key], value, rtol=1e-6, atol=0)


@pytest.mark.parametrize('head', detectors.HEADS)
def test_a_positive_weighs_as_much_as_its_box(head):
    """The loss of classes is linear in the scores; what is not of classes stays, and so do the other image's places."""
    model = student(detectors.one_stage(head))
    full, none, some, other = (
        losses_of(model, scored(own, None)) for own in ((1.0, 1.0), (0.0, 0.0), (0.25, 0.25), (0.25, 1.0))
    )
    key = 'loss_cls'
    torch.testing.assert_close(some[key], none[key] + 0.25 * (full[key] - none[key]), rtol=1e-5, atol=1e-6)
    assert none[key] < some[key] < other[key] < full[key]
    for name in full.keys() - {key}:
        torch.testing.assert_close(some[name], full[name], rtol=1e-6, atol=0)


def test_focal_loss_with_weights_by_hand():
    """Of FCOS, whose head knows no weights: places of the first box count 0.3, of the second 0.8, all others 1."""
    model = student(detectors.one_stage('fcos'))
    data = scored((0.3, 0.8))
    head = model.student.bbox_head
    with Taps(model.student, {'bbox_head', 'bbox_head.get_targets()'}, 'student') as recording:
        found = losses_of(model, data)['loss_cls']
    logits = torch.cat([level.permute(0, 2, 3, 1).reshape(-1, 3) for level in recording['bbox_head'][0]])
    labels = torch.cat(recording['bbox_head.get_targets()'].result[0])
    weight = torch.tensor([0.3, 0.8, 0.0, 1.0])[labels]  # the boxes are of the classes 0 and 1
    assert {0, 1} <= set(labels.tolist())
    probability = logits.sigmoid()
    target = F.one_hot(labels, 4)[:, :3]
    hit = torch.where(target > 0, probability, 1 - probability)
    focal = torch.where(target > 0, 0.25, 0.75) * (1 - hit) ** 2 * -hit.log()
    expected = (weight[:, None] * focal).sum() / max(int((labels < 3).sum()), 1)
    torch.testing.assert_close(found, expected * head.loss_cls.loss_weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name', list(TWO_STAGE))
def test_rois_weigh_as_much_as_the_boxes_they_were_given(name):
    model = student(TWO_STAGE[name]())
    plain, full, none, some = (
        losses_of(model, scored(own, None)) for own in (None, (1.0, 1.0), (0.0, 0.0), (0.25, 0.25))
    )
    of_classes = [key for key in full if key.endswith('loss_cls') and 'rpn' not in key]
    for key, value in full.items():
        torch.testing.assert_close(value, plain[key], rtol=1e-6, atol=0)
    positives = {key: full[key] - none[key] for key in of_classes}
    assert any(value > 0 for value in positives.values())
    first = of_classes[0]
    assert none[first] < some[first] < full[first]
    for key in full.keys() - set(of_classes):
        torch.testing.assert_close(some[key], full[key], rtol=1e-6, atol=0)


def test_images_without_a_box_and_without_labels():
    model = student(detectors.one_stage('atss'))
    data = scored((0.5, 0.5), (0.5, 0.5), None)
    data['data_samples'][1].gt_instances = data['data_samples'][1].gt_instances[:0]
    data['data_samples'][2].set_metainfo(dict(unlabelled=True))
    losses = losses_of(model, data)
    assert all(torch.isfinite(value) for value in losses.values())


def test_the_heads_are_left_as_they_were():
    for config in (detectors.one_stage('fcos'), tiny.cascade_rcnn()):
        model = student(config)
        before = {name: set(one.__dict__) for name, one in model.student.named_modules()}
        losses_of(model, scored((0.5, 0.5)))
        assert before == {name: set(one.__dict__) for name, one in model.student.named_modules()}


def test_the_nearest_box_is_the_one_to_find():
    known = [torch.tensor([[0.0, 0, 10, 10], [5, 5, 20, 20]]), torch.zeros(0, 4)]
    boxes = torch.tensor([[5.0, 5, 20, 20.001], [0, 0, 10, 10]])
    weights = weights_at(boxes, torch.tensor([0, 0]), known, [torch.tensor([0.2, 0.7]), torch.zeros(0)])
    torch.testing.assert_close(weights, torch.tensor([0.7, 0.2]))


def test_who_cannot_weigh_says_so():
    from ..helpers import transformers

    model = student(transformers.detr('dab'))
    with pytest.raises(ValueError, match=r'^student \(DABDETR\) cannot learn from boxes by their scores'):
        losses_of(model, scored((0.5, 0.5)))


# --- pixels --------------------------------------------------------------------------------------------------------------


def pixels(*scores):
    """Return images of a segmentor whose pixels have these scores, maps in 8 bits or one number."""
    data = tiny.segmentation_data(count=len(scores))
    for sample, own in zip(data['data_samples'], scores, strict=True):
        if own is not None:
            sample.set_metainfo(dict(pixel_scores=np.full((64, 64), own, np.uint8) if isinstance(own, int) else own))
    return data


@pytest.mark.parametrize('stock', ['pspnet_r50-d8', 'ocrnet_r50-d8'])
def test_pixels_weigh_as_much_as_their_scores(stock):
    model = tiny.build(dict(type='kddense.Distiller', student=tiny.segmentor(stock)), scope='mmseg')
    plain, full, none, some = (losses_of(model, pixels(own, own)) for own in (None, 255, 0, 51))
    assert plain.keys() == full.keys()
    for key, value in plain.items():
        torch.testing.assert_close(full[key], value)
        assert none[key] == 0
        torch.testing.assert_close(some[key], 0.2 * value)


def test_pixels_of_score_0_teach_as_little_as_those_without_a_label():
    model = tiny.build(dict(type='kddense.Distiller', student=tiny.segmentor('pspnet_r50-d8')), scope='mmseg')
    half = np.full((64, 64), 255, np.uint8)
    half[:, :20] = 0
    data = pixels(None, None)
    data['data_samples'][0].gt_sem_seg.data[..., :20] = 255
    ignored, weighed = losses_of(model, data), losses_of(model, pixels(half, None))
    for key, value in ignored.items():
        torch.testing.assert_close(weighed[key], value)


def test_padding_unlabelled_images_and_samplers():
    sampler = dict(type='OHEMPixelSampler', thresh=0.9, min_kept=20)
    config = tiny.segmentor('pspnet_r50-d8', {'decode_head.sampler': sampler})
    model = tiny.build(dict(type='kddense.Distiller', student=config), scope='mmseg')
    before = model.student.decode_head.sampler
    data = pixels(51, 51, 255)
    data['inputs'][0] = data['inputs'][0][:, :60, :50]
    data['data_samples'][0].gt_sem_seg = PixelData(data=data['data_samples'][0].gt_sem_seg.data[:, :60, :50])
    data['data_samples'][0].set_metainfo(dict(img_shape=(60, 50), pixel_scores=np.full((60, 50), 51, np.uint8)))
    data['data_samples'][1].set_metainfo(dict(unlabelled=True))
    losses = losses_of(model, data)
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses['decode.loss_ce'] > 0
    assert model.student.decode_head.sampler is before


def test_a_head_whose_loss_knows_no_weights_says_so():
    model = tiny.build(dict(type='kddense.Distiller', student=tiny.segmentor('pspnet_r50-d8')), scope='mmseg')

    class Own(type(model.student.decode_head)):
        def loss_by_feat(self, outputs, data_samples):
            return {}

    model.student.decode_head.__class__ = Own
    with pytest.raises(ValueError, match='^student.decode_head is a Own, whose loss knows no weights of pixels: leave'):
        losses_of(model, pixels(51, 51))

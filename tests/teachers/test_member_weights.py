"""An ensemble by its members' errors: who is wrong about a pixel, a RoI or an image counts less there."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from kddense.exchange import Batch, Question, RoISample
from kddense.teachers.member_weights import by_image, labels_at, weights_by_error

from ..helpers import detectors, plugins, tiny

STUDENT = tiny.segmentor('pspnet_r50-d8')
WIDE = [tiny.segmentor('pspnet_r50-d8', width=width) for width in (16, 16)]
DATA = tiny.segmentation_data()
RCNN = tiny.faster_rcnn()


def ensemble(members, scope):
    members = [tiny.teacher_of(one, scope) for one in members]
    return dict(type='kddense.EnsembleTeacher', by='error', members=members)


def distiller(objective, members=WIDE, student=STUDENT, scope='mmseg'):
    config = dict(
        type='kddense.Distiller', student=student, teacher=ensemble(members, scope), objectives=dict(o=objective)
    )
    model = tiny.build(config, scope=scope)
    for seed, member in enumerate(model.teachers['teacher'].members):
        tiny.shake(member.model, seed=seed)
    return model


def batch_of(model, data):
    return Batch(**model.data_preprocessor(data, True), image_format=model.image_format)


def test_weights_by_hand():
    """Two members: 1 less the softmax of the errors; three: half of that."""
    found = weights_by_error(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    assert found[:, 0].tolist() == [0.5, 0.5]
    assert float(found[0, 1]) == pytest.approx(1 - 2.718281828 / 3.718281828, rel=1e-5)
    three = weights_by_error(torch.tensor([3.0, 0.0, 1.0]))
    assert float(three.sum()) == pytest.approx(1)
    assert three[1] > three[2] > three[0]


def test_pixels_and_features():
    model = distiller(dict(type='kddense.PixelWiseObjective'))
    teacher, batch = model.teachers['teacher'], batch_of(model, DATA)
    question = Question(frozenset({'backbone'}), opinions=frozenset({'pixels'}))
    answers = [member.answer(question, batch) for member in teacher.members]
    found = teacher.answer(question, batch)
    logits = [one.opinions['pixels'][0].logits for one in answers]
    labels = labels_at(batch, logits[0].shape[-2:])
    errors = torch.stack([F.cross_entropy(one, labels.clamp(min=0), reduction='none') for one in logits])
    errors = torch.where(labels >= 0, errors, torch.zeros_like(errors))
    weight = weights_by_error(errors)
    expected = sum(w[:, None] * one.softmax(1) for w, one in zip(weight, logits, strict=True))
    torch.testing.assert_close(found.opinions['pixels'][0].logits.softmax(1), expected, rtol=1e-4, atol=1e-6)
    assert (labels >= 0).all()
    of_images = weights_by_error(errors.flatten(2).mean(2))
    for mean, *both in zip(found.taps['backbone'], *(one.taps['backbone'] for one in answers), strict=True):
        torch.testing.assert_close(
            mean, sum(w[:, None, None, None] * one for w, one in zip(of_images, both, strict=True))
        )
    alone = teacher.answer(Question(frozenset({'backbone'})), batch)
    assert not alone.opinions, 'asked for the errors alone'
    assert all(map(torch.equal, alone.taps['backbone'], found.taps['backbone']))
    plugins.train(model, DATA)
    plugins.assert_contracts(model, STUDENT, 'mmseg')


def test_pixels_without_a_label_are_not_right_ones():
    """Two members on two images, of which the second has one labelled pixel of four, and a third without any."""
    errors = torch.tensor([[[1.0, 1, 1, 1], [0, 2, 0, 0], [0, 0, 0, 0]], [[3.0, 1, 1, 3], [0, 4, 0, 0], [0, 0, 0, 0]]])
    assert by_image(errors.view(2, 3, 2, 2), None, 3).tolist() == [[1, 2, 0], [2, 4, 0]]


def test_rois():
    model = distiller(dict(type='kddense.ChenRoIObjective'), [RCNN, RCNN], RCNN, 'mmdet')
    heard = {}
    objective = model.objectives['o']
    whole = objective.forward
    objective.forward = lambda seen, taught: heard.update(seen=seen, taught=taught) or whole(seen, taught)
    tiny.step(model, tiny.detection_data())
    sample = heard['seen'].samples['roi'][0]
    batch = batch_of(model, tiny.detection_data())
    question = Question(opinions=frozenset({'roi'}), samples=heard['seen'].samples)
    said = [one.answer(question, batch).opinions['roi'][0] for one in model.teachers['teacher'].members]
    labels = torch.full((sample.num_sampled,), said[0].logits.shape[1] - 1)
    labels[sample.positive] = sample.labels
    weight = weights_by_error(torch.stack([F.cross_entropy(one.logits, labels, reduction='none') for one in said]))
    expected = sum(w[:, None] * one.logits.softmax(1) for w, one in zip(weight, said, strict=True))
    found = heard['taught'].opinions['roi'][0]
    torch.testing.assert_close(found.logits.softmax(1), expected, rtol=1e-3, atol=1e-5)
    deltas = sum(w[sample.positive, None] * one.deltas for w, one in zip(weight, said, strict=True))
    torch.testing.assert_close(found.deltas, deltas, rtol=1e-3, atol=1e-5)


def test_images_without_labels_count_alike():
    model = distiller(dict(type='kddense.PixelWiseObjective'))
    batch = batch_of(model, DATA)
    for one in batch.data_samples:
        del one.gt_sem_seg
    assert (labels_at(batch, (8, 8)) == -1).all()
    question = Question(opinions=frozenset({'pixels'}))
    teacher = model.teachers['teacher']
    both = [one.answer(question, batch).opinions['pixels'][0].logits.softmax(1) for one in teacher.members]
    found = teacher.answer(question, batch).opinions['pixels'][0].logits.softmax(1)
    torch.testing.assert_close(found, sum(both) / 2, rtol=1e-4, atol=1e-6)


def test_rois_of_images_without_labels_count_alike():
    model = distiller(dict(type='kddense.ChenRoIObjective'), [RCNN, RCNN], RCNN, 'mmdet')
    batch = batch_of(model, tiny.detection_data())
    batch.data_samples[1].set_metainfo(dict(unlabelled=True))
    rois = torch.tensor([[0.0, 8, 8, 40, 40], [1.0, 4, 4, 30, 40]])
    nothing = torch.zeros(0, dtype=torch.long)
    question = Question(
        opinions=frozenset({'roi'}), samples=dict(roi=[RoISample(rois, nothing, nothing, rois[:0, :4])])
    )
    teacher = model.teachers['teacher']
    said = [one.answer(question, batch).opinions['roi'][0].logits.softmax(1) for one in teacher.members]
    found = teacher.answer(question, batch).opinions['roi'][0].logits.softmax(1)
    mean = sum(said) / 2
    torch.testing.assert_close(found[1], mean[1], rtol=1e-4, atol=1e-6)
    assert (found[0] - mean[0]).abs().max() > 1e-4


def test_what_cannot_be_weighted_is_told():
    fcos = detectors.one_stage('fcos')
    with pytest.raises(ValueError, match="teacher.by='error' weights softmax classes of pixels and RoIs"):
        distiller(dict(type='kddense.DenseHintonObjective'), [fcos] * 2, fcos, 'mmdet')
    model = distiller(dict(type='kddense.HintObjective', tap='neck'), [RCNN] * 2, RCNN, 'mmdet')
    with pytest.raises(ValueError, match='weights features by the errors of pixels or RoIs'):
        tiny.step(model, tiny.detection_data())
    members = [tiny.teacher_of(one, 'mmseg') for one in WIDE]
    wrong = dict(type='kddense.EnsembleTeacher', by='best', members=members)
    config = dict(type='kddense.Distiller', student=STUDENT, teacher=wrong, objectives={})
    with pytest.raises(ValueError, match="by must be one of 'mean', 'error', got 'best'"):
        tiny.build(config, scope='mmseg')


def test_sigmoid_and_softmax_classes_have_no_mean():
    """Whoever comes first: the mean of the one kind says nothing of the other."""
    sigmoid = tiny.segmentor('pspnet_r50-d8', {'decode_head.loss_decode.use_sigmoid': True}, width=16)
    members = [tiny.teacher_of(one, 'mmseg') for one in (WIDE[0], sigmoid)]
    for mixed in (members, members[::-1]):
        teacher = dict(type='kddense.EnsembleTeacher', members=mixed)
        objectives = dict(o=dict(type='kddense.PixelWiseObjective'))
        config = dict(type='kddense.Distiller', student=STUDENT, teacher=teacher, objectives=objectives)
        with pytest.raises(ValueError, match="of 'pixels' its members have sigmoid and softmax classes"):
            tiny.build(config, scope='mmseg')

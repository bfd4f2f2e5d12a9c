"""DIST and DKD: which samples of each family they compare, and by which classes."""

import pytest
import torch
from torch.nn import functional as F

from kddense.losses import decoupled_divergence, relation_distance

from ..helpers import detectors, segmentors, tiny
from ..helpers.depth_estimators import BINS, depth_data, depth_estimator


def step(student, teacher, config, data=None, scope='mmdet', **options):
    """Run a step of one objective; return the model, its loss, and what it was given."""
    model = tiny.distiller(student, teacher, dict(it=config), scope=scope, **options)
    heard = []
    forward = model.objectives['it'].forward
    model.objectives['it'].forward = lambda seen, taught: heard.extend([seen, taught]) or forward(seen, taught)
    loss = tiny.step(model, data or tiny.detection_data())['distill.it.loss']
    loss.backward()
    assert any(one.grad is not None and one.grad.any() for one in model.student.parameters())
    return model, loss.detach(), *heard


def dist(**options):
    return dict(type='kddense.DISTObjective', **options)


def dkd(**options):
    return dict(type='kddense.DKDObjective', **options)


@pytest.mark.parametrize('detector', [tiny.faster_rcnn, tiny.cascade_rcnn], ids=['faster', 'cascade'])
def test_rois_with_the_background_for_a_class(detector):
    """Each stage of a cascade counts as its own loss does."""
    for config in (dist(inter=2.0), dkd(beta=3.0)):
        _, loss, seen, taught = step(detector(), detector(width=12), config)
        total = 0
        for sample, own, other in zip(seen.samples['roi'], seen.opinions['roi'], taught.opinions['roi'], strict=True):
            labels = torch.full((len(sample.rois),), 3)
            labels[sample.positive] = sample.labels
            assert (labels < 3).any()
            assert (labels == 3).any()
            if 'inter' in config:
                total += sample.weight * relation_distance(own.logits, other.logits, inter=2.0)
            else:
                total += sample.weight * decoupled_divergence(own.logits, other.logits, labels, 1, 3, 1)
        torch.testing.assert_close(loss, total.detach())


@pytest.mark.parametrize('head', ['fcos', 'retinanet'])
def test_places_of_a_dense_head(head):
    """DIST looks at the positives alone; DKD at all places, each class a yes or no."""
    pair = detectors.one_stage(head), detectors.one_stage(head, width=12)
    _, loss, seen, taught = step(*pair, dist())
    (sample,), (own,), (other,) = seen.samples['dense'], seen.opinions['dense'], taught.opinions['dense']
    rows = [side.logits[sample.positive] for side in (own, other)]
    torch.testing.assert_close(loss, relation_distance(*rows, classes='sigmoid').detach())
    _, loss, seen, taught = step(*pair, dkd(average='positives'))
    (sample,), (own,), (other,) = seen.samples['dense'], seen.opinions['dense'], taught.opinions['dense']
    expected = decoupled_divergence(own.logits, other.logits, sample.labels, 1, 0.25, 1, 'sigmoid')
    torch.testing.assert_close(loss, expected.detach() * sample.num_sampled / max(sample.num_positive, 1))


def half_labelled():
    data = tiny.segmentation_data()
    data['data_samples'][0].gt_sem_seg.data[:, :, :30] = 255
    return data


def logits_of(answer, size):
    return F.interpolate(answer.opinions['pixels'][0].logits, size, mode='bilinear', align_corners=False)


def pspnet(*changes, **options):
    return tiny.segmentor('pspnet_r50-d8', *changes, **options)


@pytest.mark.parametrize('resize', ['student', 'teacher'])
def test_pixels(resize):
    """Of a place, the pixel at its middle has the label; those without one count in DIST unless they are left out."""
    data = half_labelled()
    pair = segmentors.mobilenet(), pspnet(width=12)  # strides 32 and 8
    _, loss, seen, taught = step(*pair, dkd(resize=resize), data, 'mmseg')
    size = (8, 8) if resize == 'student' else (2, 2)
    own, other = (logits_of(answer, size) for answer in (seen, taught))
    middle = slice(4, None, 8) if resize == 'student' else slice(16, None, 32)
    labels = torch.stack([one.gt_sem_seg.data[0, middle, middle] for one in data['data_samples']])
    assert (labels == 255).any()
    labels[labels == 255] = -1
    torch.testing.assert_close(loss, decoupled_divergence(own, other, labels, 1, 0.25, 1).detach())
    for ignore, mask in ((False, None), (True, labels >= 0)):
        config = dist(resize=resize, ignore_unlabelled_pixels=ignore)
        _, loss, *answers = step(*pair, config, data, 'mmseg')
        own, other = (logits_of(answer, size) for answer in answers)
        torch.testing.assert_close(loss, relation_distance(own, other, mask=mask).detach(), rtol=1e-4, atol=1e-6)


def test_sigmoid_heads_of_segmentors_and_auxiliary_heads():
    _, loss, seen, taught = step(
        segmentors.fast_scnn(), segmentors.fast_scnn(), dist(on='auxiliary_head'), tiny.segmentation_data(), 'mmseg'
    )
    pairs = list(zip(seen.opinions['auxiliary'], taught.opinions['auxiliary'], strict=True))
    assert len(pairs) == 2
    expected = sum(relation_distance(own.logits, other.logits, classes='sigmoid') for own, other in pairs) / 2
    torch.testing.assert_close(loss, expected.detach())


def test_one_logit_is_that_of_the_second_class():
    changes = {
        'decode_head.num_classes': 2,
        'decode_head.out_channels': 1,
        'decode_head.threshold': 0.3,
        'decode_head.loss_decode.use_sigmoid': True,
        'auxiliary_head': None,
    }
    data = tiny.segmentation_data(classes=2)
    _, loss, seen, taught = step(pspnet(changes), pspnet(changes, width=12), dkd(), data, 'mmseg')
    own, other = seen.opinions['pixels'][0].logits, taught.opinions['pixels'][0].logits
    labels = torch.stack([1 - one.gt_sem_seg.data[0, 4::8, 4::8] for one in data['data_samples']])
    torch.testing.assert_close(loss, decoupled_divergence(own, other, labels, 1, 0.25, 1, 'sigmoid').detach())


def test_depth_estimators_have_bins_to_correlate_but_no_classes():
    pair = depth_estimator(BINS), depth_estimator(BINS, width=12)
    _, loss, seen, taught = step(*pair, dist(), depth_data(), 'mmseg')
    own, other = seen.opinions['pixels'][0].logits, taught.opinions['pixels'][0].logits
    torch.testing.assert_close(loss, relation_distance(own, other).detach())
    with pytest.raises(
        ValueError, match=r'^objectives.it: DKDObjective compares classes, and a depth estimator has none'
    ):
        step(*pair, dkd(), depth_data(), 'mmseg')
    with pytest.raises(ValueError, match="only 'bins' has probabilities to compare"):
        step(depth_estimator(), depth_estimator(), dist(), depth_data(), 'mmseg')


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r'^objectives.it: the student has 5 classes and the teacher 7; choose'):
        step(pspnet(), pspnet(classes=7), dkd(), scope='mmseg')
    with pytest.raises(ValueError, match=r"on must be one of 'decode_head', .*, got 'head'"):
        step(pspnet(), pspnet(), dist(on='head'), scope='mmseg')
    with pytest.raises(ValueError, match='student .FasterRCNN. has no dense head; only one-stage'):
        step(tiny.faster_rcnn(), tiny.faster_rcnn(), dist(on='bbox_head'))

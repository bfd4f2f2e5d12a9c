"""IFVD and CIRKD: where they look, by whose classes, what is remembered."""

import pytest
import torch
from torch.nn import functional as F

from kddense.losses import cross_image_divergence, intra_class_variation, memory_divergence

from ..helpers import segmentors, tiny

PSPNET = tiny.segmentor('pspnet_r50-d8')
QUEUES = dict(pixel_queue=6, region_queue=3, pixels_per_image=4)


def build(student, teacher, config, scope='mmseg'):
    return tiny.distiller(student, teacher, dict(it=config), scope)


def heard_step(model, data):
    """Run a step; return its losses, and what the student's and the teacher's classifiers read."""
    heard = [segmentors.listen(one.decode_head) for one in (model.student, model.teachers['teacher'].model)]
    losses = tiny.step(model, data)
    return losses, *(one['feature'][0] for one in heard)


def labels_of(data, step=8):
    return torch.stack([one.gt_sem_seg.data[0, step // 2 :: step, step // 2 :: step] for one in data['data_samples']])


def test_variation_of_what_the_classifier_reads():
    """Strides and channels may differ: the student is resized, and there is no connector."""
    data = tiny.segmentation_data()
    config = dict(type='kddense.IFVDObjective')
    model = build(segmentors.mobilenet(), tiny.segmentor('pspnet_r50-d8', width=12, head=24), config)
    assert not list(model.objectives.parameters())
    losses, own, other = heard_step(model, data)
    assert own.shape[2:] == (2, 2)
    own = F.interpolate(own, other.shape[2:], mode='bilinear', align_corners=False)
    expected = 200 * intra_class_variation(own, other, labels_of(data))
    torch.testing.assert_close(losses['distill.it.loss'], expected)


def test_variation_at_a_tap():
    data = tiny.segmentation_data()
    model = build(PSPNET, tiny.segmentor('pspnet_r50-d8', width=12), dict(type='kddense.IFVDObjective', tap='backbone'))
    losses = tiny.step(model, data)
    inputs = model.data_preprocessor(data, True)['inputs']
    pairs = zip(model.student.backbone(inputs), model.teachers['teacher'].model.backbone(inputs), strict=True)
    expected = [intra_class_variation(*pair, labels_of(data, 64 // pair[0].shape[2])) for pair in pairs]
    torch.testing.assert_close(losses['distill.it.loss'], 200 * sum(expected) / 4, rtol=1e-3, atol=1e-4)


def test_relations_across_images_and_to_memory():
    data = tiny.segmentation_data()
    data['data_samples'][0].gt_sem_seg.data[:, :20] = 255
    teacher = tiny.segmentor('pspnet_r50-d8', width=12, head=24)
    model = build(PSPNET, teacher, dict(type='kddense.CIRKDObjective', **QUEUES))
    losses, own, other = heard_step(model, data)
    objective = model.objectives['it']
    torch.testing.assert_close(losses['distill.it.loss_batch'], cross_image_divergence(own, other))
    labels = labels_of(data)
    known = labels != 255
    projected = objective.projectors[0](own)
    ours, theirs = (side.movedim(1, -1)[known] for side in (projected, other))
    for name, queues in (('pixel', objective.pixel_queues), ('region', objective.region_queues)):
        remembered = queues[0].sample(100)
        assert len(remembered)
        expected = 0.1 * memory_divergence(ours, theirs, remembered)
        torch.testing.assert_close(losses[f'distill.it.loss_{name}'], expected, rtol=1e-3, atol=1e-5)
    losses['distill.it.loss_pixel'].backward()
    assert all(one.grad.any() for one in objective.projectors.parameters() if one.dim() > 1)


def test_queues_hold_places_and_means_of_their_own_class():
    """The released code takes the first places of the image for those of a class."""
    data = tiny.segmentation_data()
    data['data_samples'][0].gt_sem_seg.data[:] = 1
    data['data_samples'][1].gt_sem_seg.data[:] = 255
    data['data_samples'][0].gt_sem_seg.data[:, 32:] = 4
    model = build(PSPNET, PSPNET, dict(type='kddense.CIRKDObjective', **QUEUES))
    _, _, other = heard_step(model, data)
    rows = F.normalize(other[0], dim=0).flatten(1).T
    objective = model.objectives['it']
    pixels, regions = objective.pixel_queues[0], objective.region_queues[0]
    assert pixels.counts.tolist() == [0, 4, 0, 0, 4]
    assert regions.counts.tolist() == [0, 1, 0, 0, 1]
    for label, places in ((1, rows[:32]), (4, rows[32:])):
        for vector in pixels.vectors[label, :4]:
            assert (places - vector).abs().sum(1).min() < 1e-5
        torch.testing.assert_close(regions.vectors[label, 0], F.normalize(places.mean(0), dim=0))


def test_large_maps_are_averaged():
    data = tiny.segmentation_data()
    model = build(PSPNET, tiny.segmentor('pspnet_r50-d8', width=12), dict(type='kddense.CIRKDObjective', max_places=16))
    losses, own, other = heard_step(model, data)
    expected = cross_image_divergence(F.avg_pool2d(own, 2), F.avg_pool2d(other, 2))
    torch.testing.assert_close(losses['distill.it.loss_batch'], expected)


def test_levels_of_a_pyramid_remember_less():
    model = build(tiny.faster_rcnn(), tiny.faster_rcnn(), dict(type='kddense.CIRKDObjective'), 'mmdet')
    objective = model.objectives['it']
    assert [queue.size for queue in (*objective.pixel_queues, *objective.region_queues)] == [1000] * 5 + [100] * 5
    assert objective._pooled(torch.ones(1, 1, 40, 40)).shape[2:] == (14, 14)
    assert [objective._size(f'{kind}_samples') for kind in ('pixel', 'region')] == [1024, 256]
    (queue,) = build(PSPNET, PSPNET, dict(type='kddense.CIRKDObjective')).objectives['it'].pixel_queues
    assert queue.size == 20000


def test_a_batch_without_labels_has_no_memory_term():
    data = tiny.segmentation_data()
    for sample in data['data_samples']:
        sample.gt_sem_seg.data[:] = 255
    model = build(PSPNET, PSPNET, dict(type='kddense.CIRKDObjective', **QUEUES))
    losses = tiny.step(model, data)
    assert losses['distill.it.loss_pixel'].item() == losses['distill.it.loss_region'].item() == 0
    sum(value for key, value in losses.items() if key.startswith('distill')).backward()
    assert all(one.grad is not None for one in model.objectives.parameters())


@pytest.mark.parametrize(
    'options, sentence',
    [
        (dict(pixel=-1), 'pixel must be at least 0, got -1'),
        (dict(pixel_samples=0), 'pixel_samples must be at least 1, got 0'),
        (dict(temperature=0), 'temperature must be above 0, got 0'),
        (dict(region_queue=0), 'region_queue must be at least 1, got 0'),
    ],
)
def test_bad_options_are_refused(options, sentence):
    with pytest.raises(ValueError, match=f'{sentence}'):
        build(PSPNET, PSPNET, dict(type='kddense.CIRKDObjective', **options))

"""Classes of places by the ground truth: of pixels, boxes and depths, in padding, of unlabelled images."""

import math

import pytest
import torch

from kddense.exchange import Batch
from kddense.objectives._labels import PlaceLabels
from kddense.views import build_view

from ..helpers import detectors, tiny
from ..helpers.depth_estimators import depth_data, depth_estimator


def prepared(config, data, scope):
    """Return the view of a student, and the batch that it would be given."""
    model = tiny.build(config, scope=scope)
    batch = model.data_preprocessor(data, True)
    return build_view(model, 'student'), Batch(batch['inputs'], batch['data_samples'])


def test_pixels():
    data = tiny.segmentation_data(size=(64, 96))
    data['data_samples'][0].gt_sem_seg.data[:, :20] = 255
    view, batch = prepared(tiny.segmentor('pspnet_r50-d8'), data, 'mmseg')
    labels = PlaceLabels(view)
    assert labels.classes == 5
    found = labels.at(batch, (8, 12))
    expected = torch.stack([one.gt_sem_seg.data[0, 4::8, 4::8] for one in data['data_samples']])
    assert torch.equal(found, expected.masked_fill(expected == 255, -1))
    assert (found[0, :2] == -1).all()
    assert (found[0, 3:] >= 0).all()
    batch.data_samples[1].set_metainfo(dict(unlabelled=True))
    assert (labels.at(batch, (8, 12))[1] == -1).all()


@pytest.mark.parametrize('detector', [tiny.faster_rcnn, lambda: detectors.one_stage('fcos'), tiny.cascade_rcnn])
def test_boxes_the_smallest_one_wins(detector):
    """The second image is smaller than the batch: what lies beyond is padding."""
    view, batch = prepared(detector(), tiny.detection_data(), 'mmdet')
    labels = PlaceLabels(view)
    assert labels.classes == 4
    found = labels.at(batch, (16, 16))
    assert found.shape == (2, 16, 16)
    for image, sample in enumerate(batch.data_samples):
        for row in range(16):
            for column in range(16):
                y, x = 4 * row + 2, 4 * column + 2
                around = [
                    ((right - left) * (bottom - top), int(label))
                    for (left, top, right, bottom), label in zip(
                        sample.gt_instances.bboxes.tolist(), sample.gt_instances.labels, strict=True
                    )
                    if left <= x < right and top <= y < bottom
                ]
                expected = min(around)[1] if around else 3
                height, width = sample.img_shape
                assert found[image, row, column] == (expected if y < height and x < width else -1)


def test_an_image_without_boxes_is_background():
    data = tiny.detection_data(boxes=((), ()))
    view, batch = prepared(tiny.faster_rcnn(), data, 'mmdet')
    assert (PlaceLabels(view).at(batch, (4, 4))[0] == 3).all()


def test_depths_by_intervals_that_are_equal_in_the_logarithm():
    data = depth_data()
    view, batch = prepared(depth_estimator({'decode_head.min_depth': 0.5, 'decode_head.max_depth': 8.0}), data, 'mmseg')
    found = PlaceLabels(view, intervals=4).at(batch, (16, 16))
    for image, sample in enumerate(data['data_samples']):
        depth = sample.gt_depth_map.data[0, 2::4, 2::4]
        assert (depth == 0).any()
        assert (depth > 8).any()
        for own, label in zip(depth.flatten().tolist(), found[image].flatten().tolist(), strict=True):
            expected = -1 if not 0.5 <= own <= 8 else min(int(math.log2(own / 0.5)), 3)
            assert label == expected


def test_other_models_are_refused():
    view = build_view(torch.nn.Conv2d(3, 3, 1), 'student')
    with pytest.raises(ValueError, match=r'^student \(Conv2d\) has no ground truth of places: it must be a segmentor'):
        PlaceLabels(view)
    with pytest.raises(ValueError, match='intervals must be at least 1, got 0'):
        PlaceLabels(view, intervals=0)

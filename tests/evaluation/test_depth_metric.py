"""Depth metrics on images of any size."""

from __future__ import annotations

import pytest
import torch
from mmseg.evaluation.metrics import DepthMetric as StockDepthMetric

from kddense.evaluation import DepthMetric

RANGE = dict(min_depth_eval=1e-3, max_depth_eval=10.0)


def evaluate(metric, *pairs):
    for prediction, truth in pairs:
        sample = dict(pred_depth_map=dict(data=prediction[None]), gt_depth_map=dict(data=truth[None]))
        metric.process({}, [sample])
    return metric.compute_metrics(metric.results)


def depths(height, width, seed):
    return 0.5 + 9 * torch.rand(height, width, generator=torch.Generator().manual_seed(seed))


def test_the_same_numbers_as_mmseg_at_full_size():
    pairs = [(depths(480, 640, seed), depths(480, 640, seed + 1)) for seed in (0, 2)]

    ours = evaluate(DepthMetric(crop_type='nyu_crop', **RANGE), *pairs)

    assert ours == evaluate(StockDepthMetric(crop_type='nyu_crop', **RANGE), *pairs)


@pytest.mark.parametrize(
    ('crop', 'size', 'rows', 'columns'),
    [
        ('nyu_crop', (480, 640), (45, 471), (41, 601)),
        ('nyu_crop', (240, 320), (23, 235), (21, 300)),
        ('garg_crop', (352, 1216), (143, 349), (43, 1172)),
        ('eigen_crop', (352, 1216), (117, 321), (43, 1172)),
    ],
)
def test_crops(crop, size, rows, columns):
    mask = DepthMetric(crop_type=crop, **RANGE)._get_eval_mask(torch.ones(size))

    inside = mask.nonzero()
    assert (inside.amin(0).tolist(), (inside.amax(0) + 1).tolist()) == ([rows[0], columns[0]], [rows[1], columns[1]])
    assert mask.sum() == (rows[1] - rows[0]) * (columns[1] - columns[0])


def test_without_a_crop_every_known_pixel_counts():
    truth = torch.ones(4, 4)
    truth[0] = 0
    truth[1] = 11

    assert DepthMetric(**RANGE)._get_eval_mask(truth).sum() == 8


def test_images_without_a_known_pixel_are_left_out():
    pair = depths(24, 32, 0), depths(24, 32, 1)

    alone = evaluate(DepthMetric(**RANGE), pair)

    assert evaluate(DepthMetric(**RANGE), pair, (depths(24, 32, 2), torch.zeros(24, 32))) == alone


def test_some_metrics_only():
    values = evaluate(
        DepthMetric(depth_metrics=['abs_rel', 'd1'], **RANGE), (torch.ones(4, 4) * 3, torch.ones(4, 4) * 2)
    )

    assert values == dict(abs_rel=pytest.approx(0.5), d1=0.0)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="DepthMetric.crop_type must be one of nyu_crop, .* got 'kitti'"):
        DepthMetric(crop_type='kitti')
    with pytest.raises(ValueError, match="depth_metrics must be of d1, .* got 'mIoU'"):
        DepthMetric(depth_metrics=['mIoU'])
    with pytest.raises(ValueError, match='no image has a pixel with a depth within the range and the crop'):
        evaluate(DepthMetric(**RANGE), (torch.ones(4, 4), torch.zeros(4, 4)))

"""How metrics are called, ordered, written and compared."""

import math

import pytest

from kddense.report.metrics import Metric, in_order


@pytest.mark.parametrize(
    'key, label, value, written',
    [
        ('coco/bbox_mAP', 'mAP', 0.1234, '12.3'),
        ('coco/bbox_mAP_50', 'mAP50', 0.5, '50.0'),
        ('coco/segm_mAP_s', 'mask mAP small', 0.021, '2.1'),
        ('coco/bbox_mAP_l', 'mAP large', -1.0, '–'),  # nothing large in the data set
        ('mIoU', 'mIoU', 43.21, '43.2'),
        ('coco_panoptic/PQ_th', 'PQ_th', 42.21, '42.2'),
        ('abs_rel', 'abs rel', 0.1234, '0.123'),
        ('d1', 'δ < 1.25', 0.9, '0.900'),
        ('pascal_voc/mAP', 'mAP', 0.5, '50.0'),
        ('mIoU', 'mIoU', math.nan, '–'),
        ('mIoU', 'mIoU', None, '–'),
    ],
)
def test_metrics_are_written_as_people_do(key, label, value, written):
    metric = Metric.of(key)
    assert (metric.label, metric.written(value)) == (label, written)


@pytest.mark.parametrize(
    'key, before, after, gain',
    [
        ('coco/bbox_mAP', 0.1, 0.125, '+2.5'),
        ('coco/bbox_mAP', 0.125, 0.1, '−2.5'),
        ('coco/bbox_mAP', 0.03849, 0.04951, '+1.1'),  # 3.8 and 5.0: the difference is rounded, not taken of what was
        ('abs_rel', 0.3, 0.28, '−0.020'),
        ('mIoU', 40.0, 40.0, '+0.0'),
        ('mIoU', None, 40.0, ''),
        ('mIoU', math.nan, 40.0, ''),
        ('coco/bbox_mAP_l', -1.0, 0.2, ''),
        ('speed', 1.0, 2.0, '+1.000'),
    ],
)
def test_gains_are_differences_of_what_was_measured(key, before, after, gain):
    assert Metric.of(key).gain(before, after) == gain


@pytest.mark.parametrize(
    'key, between, verdict',
    [
        ('mIoU', (0.1, 2.0), 'better'),
        ('mIoU', (-2.0, -0.1), 'worse'),
        ('mIoU', (-0.1, 2.0), ''),
        ('mIoU', (0.0, 2.0), ''),
        ('coco_panoptic/PQ', (0.1, 2.0), 'better'),
        ('abs_rel', (-0.2, -0.1), 'better'),
        ('abs_rel', (0.1, 0.2), 'worse'),
        ('speed', (1.0, 2.0), ''),  # nobody said which is better
    ],
)
def test_verdicts_want_the_whole_interval_on_one_side(key, between, verdict):
    assert Metric.of(key).verdict(between) == verdict


def test_what_counts_most_comes_first():
    keys = ['coco/bbox_mAP_50', 'coco/bbox_mAP', 'coco/bbox_mAP_50']
    assert [metric.key for metric in in_order(keys)] == ['coco/bbox_mAP', 'coco/bbox_mAP_50']
    assert [metric.key for metric in in_order(['aAcc', 'mIoU'])] == ['mIoU', 'aAcc']
    assert in_order(['coco_panoptic/SQ', 'coco_panoptic/PQ'])[0].key == 'coco_panoptic/PQ'
    assert in_order([]) == []

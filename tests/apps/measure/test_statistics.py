"""Intervals of paired differences, the word for them, and the bootstrap over images."""

import numpy as np
import pytest

from kddense.apps.measure.statistics import bootstrap_iou, paired_interval, sign_of, verdict


def test_students_t_of_the_textbook():
    """Five differences of mean 2 and standard deviation 1.5811; t of four degrees of freedom at 0.975 is 2.7764."""
    mean, interval = paired_interval([0.0, 1.0, 2.0, 3.0, 4.0])

    assert mean == 2.0
    assert interval == pytest.approx((2 - 2.7764 * 1.5811 / 5**0.5, 2 + 2.7764 * 1.5811 / 5**0.5), abs=1e-3)


def test_one_pair_has_no_interval():
    assert paired_interval([1.5]) == (1.5, None)


@pytest.mark.parametrize(
    ('interval', 'word'),
    [
        ((0.1, 2.0), 'helps'),
        ((-2.0, -0.1), 'harms'),
        ((-0.1, 2.0), 'no difference seen'),
        ((0.0, 2.0), 'no difference seen'),
        (None, 'too few seeds'),
    ],
)
def test_the_verdict_goes_by_the_interval(interval, word):
    assert verdict(interval) == word


@pytest.mark.parametrize(
    ('metric', 'sign'), [('mIoU', 1), ('coco/bbox_mAP', 1), ('abs_rel', -1), ('d1', 1), ('val/rmse', -1)]
)
def test_lower_is_better_for_errors(metric, sign):
    assert sign_of(metric) == sign


def areas(path, intersect, union):
    np.savez(path, intersect=np.asarray(intersect, np.float32), union=np.asarray(union, np.float32))
    return path


@pytest.fixture
def better(tmp_path):
    """Images of two classes, of which the method always finds half, and the plain student a quarter."""
    union = np.full((20, 2), 8.0)
    return areas(tmp_path / 'own.npz', union / 2, union), areas(tmp_path / 'plain.npz', union / 4, union)


def test_a_gain_on_every_image_has_an_interval_of_no_width(better):
    assert bootstrap_iou([better], draws=50) == pytest.approx((25.0, 25.0))


def test_a_gain_on_some_images_has_a_wide_one(better, tmp_path):
    found = np.where(np.arange(20) % 2, 6.0, 2.0)[:, None] * np.ones((20, 2))
    mixed = areas(tmp_path / 'mixed.npz', found, np.full((20, 2), 8.0))

    low, high = bootstrap_iou([(mixed, better[1])], draws=500)

    assert low < 25 < high
    assert 10 < high - low < 50
    assert (low, high) == bootstrap_iou([(mixed, better[1])], draws=500)  # always the same draws


def test_the_same_images_are_drawn_for_both_sides(better):
    assert bootstrap_iou([(better[0], better[0])], draws=50) == (0.0, 0.0)


def test_other_test_sets_are_refused(better, tmp_path):
    fewer = areas(tmp_path / 'fewer.npz', np.ones((3, 2)), np.ones((3, 2)))

    with pytest.raises(ValueError, match=r'fewer.npz holds 3 test images, .*own.npz 20: not the same test set'):
        bootstrap_iou([(better[0], fewer)])

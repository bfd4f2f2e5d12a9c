"""Least scores: shares of what is right above them, ties, pairs of boxes."""

import numpy as np
import pytest

from kddense.apps.label.thresholds import LEVELS, least_level, least_score, matched


@pytest.mark.parametrize(
    'precision, expected',
    [
        (1.0, 0.9),  # the first is right
        (0.75, 0.6),  # three of four
        (0.6, 0.4),  # four of six
        (0.5, 0.3),  # all of them, four of eight
        (0.0, 0.3),
    ],
)
def test_the_least_score_with_a_share_of_right_ones(precision, expected):
    scores = np.array([0.3, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35])
    right = np.array([0, 1, 0, 1, 1, 0, 1, 0], bool)
    assert least_score(scores, right, precision) == expected


def test_what_ties_is_kept_or_left_together():
    assert least_score(np.array([0.9, 0.5, 0.5]), np.array([True, True, False]), 0.9) == 0.9
    assert least_score(np.array([0.5, 0.5]), np.array([True, False]), 0.9) is None


def test_nothing_right_or_nothing_at_all_has_none():
    assert least_score(np.array([0.9]), np.array([False]), 0.5) is None
    assert least_score(np.zeros(0), np.zeros(0, bool), 0.5) is None
    assert least_level(np.zeros(LEVELS), np.zeros(LEVELS), 0.0) is None


@pytest.mark.parametrize('precision', [0.2, 0.5, 0.8, 0.95])
def test_levels_of_pixels_agree_with_scores(precision):
    numbers = np.random.RandomState(3)
    levels = numbers.randint(0, LEVELS, 500)
    right = numbers.rand(500) < levels / LEVELS
    total, correct = (np.bincount(levels[which], minlength=LEVELS) for which in (slice(None), right))
    expected = least_score(levels.astype(float), right, precision)
    assert least_level(total, correct, precision) == (None if expected is None else int(expected))


def test_each_true_box_counts_once_and_the_surest_goes_first():
    overlaps = np.array([[0.8, 0.1], [0.9, 0.0], [0.2, 0.6], [0.4, 0.4]])
    outcome = matched(overlaps, [0.5, 0.9, 0.7, 0.6], np.zeros(2, bool))
    assert outcome.tolist() == [0, 1, 1, 0]


def test_boxes_of_crowds_count_neither_way():
    outcome = matched(np.array([[0.9, 0.0], [0.8, 0.0], [0.0, 0.1]]), [0.9, 0.8, 0.7], np.array([True, False]))
    assert outcome.tolist() == [-1, -1, 0]
    assert matched(np.zeros((2, 0)), [0.3, 0.4], np.zeros(0, bool)).tolist() == [0, 0]


def test_a_free_true_box_goes_before_a_crowd_that_overlaps_more():
    outcome = matched(np.array([[0.9, 0.6], [0.9, 0.7]]), [0.9, 0.8], np.array([True, False]))
    assert outcome.tolist() == [1, -1]

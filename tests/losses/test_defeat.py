"""DeFeat: boxes on a grid by hand, both terms in loops, exact gradients, maps all of one kind."""

import pytest
import torch

from kddense.losses import DecoupledLoss, covered_mask, decoupled_distance

from ..helpers import loss_checks as checks

MASK = torch.tensor([[True, False, False], [True, True, False]]).view(1, 1, 2, 3)


def test_boxes_on_a_grid_by_hand():
    """In cells of 8 pixels: a box of 2 x 3, one thinner than a cell, one beyond the edge."""
    boxes = torch.tensor([[9.0, 0, 25, 24], [2, 33, 5, 50], [60, 60, 70, 70]])
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[0:3, 1:3] = True
    expected[4:6, 0] = True
    expected[7, 7] = True
    assert torch.equal(covered_mask(boxes, (64, 64), (8, 8)), expected)
    assert not covered_mask(torch.zeros(0, 4), (64, 64), (8, 8)).any()


def test_width_and_height_are_not_mixed_up():
    found = covered_mask(torch.tensor([[16.0, 0, 32, 8]]), (16, 64), (2, 8))
    assert found.nonzero().tolist() == [[0, 2], [0, 3]]


def test_both_terms_in_loops():
    student, teacher = checks.random_tensor(1, 4, 2, 3), checks.random_tensor(1, 4, 2, 3, seed=1)
    sums, counts = [0.0, 0.0], [0, 0]
    for y in range(2):
        for x in range(3):
            side = 0 if MASK[0, 0, y, x] else 1
            counts[side] += 1
            sums[side] += sum((student[0, c, y, x] - teacher[0, c, y, x]).item() ** 2 for c in range(4))
    expected = [total / (2 * 4 * count) for total, count in zip(sums, counts, strict=True)]
    assert [term.item() for term in DecoupledLoss()(student, teacher, MASK)] == pytest.approx(expected)
    given = decoupled_distance(student, teacher, MASK, (5, 7))
    expected = [total / (2 * 4 * count) for total, count in zip(sums, (5, 7), strict=True)]
    assert [term.item() for term in given] == pytest.approx(expected)


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(1, 2, 2, 3), checks.random_tensor(1, 2, 2, 3, seed=1)
    for term in range(2):
        checks.assert_exact_gradient(lambda s, t, term=term: decoupled_distance(s, t, MASK)[term], student, teacher)
        checks.assert_float32_inside(lambda s, t, term=term: decoupled_distance(s, t, MASK)[term], student, teacher)


def test_where_there_is_nothing_it_is_a_zero():
    student, teacher = torch.ones(1, 2, 2, 3), torch.zeros(1, 2, 2, 3)
    for term, mask in enumerate((torch.zeros_like(MASK), torch.ones_like(MASK))):
        checks.assert_zero_that_backpropagates(
            lambda s, t, term=term, mask=mask: decoupled_distance(s, t, mask)[term], student, teacher
        )


def test_bad_input_is_named():
    with pytest.raises(ValueError, match='must have one shape'):
        decoupled_distance(torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 3), MASK)

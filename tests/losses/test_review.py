"""Hierarchical context: the worked example, pooling by hand, maps too small for some sizes."""

import pytest
import torch

from kddense.losses import HierarchicalContextLoss, hierarchical_context_distance

from ..helpers import loss_checks as checks


def test_the_worked_example():
    student = torch.arange(16.0, dtype=torch.float64).view(1, 1, 4, 4)
    assert hierarchical_context_distance(student, torch.zeros_like(student)).item() == pytest.approx(73.25)
    assert HierarchicalContextLoss()(student, torch.zeros_like(student)).item() == pytest.approx(73.25)


def test_agrees_with_means_of_blocks():
    student, teacher = checks.random_tensor(2, 3, 8, 8), checks.random_tensor(2, 3, 8, 8, seed=1)
    total, weights = 0.0, 0.0
    for size, weight in ((8, 1), (4, 0.5), (2, 0.25), (1, 0.125)):
        edge = 8 // size
        ours, theirs = (side.reshape(2, 3, size, edge, size, edge).mean((3, 5)) for side in (student, teacher))
        total, weights = total + weight * ((ours - theirs) ** 2).mean(), weights + weight
    torch.testing.assert_close(hierarchical_context_distance(student, teacher), total / weights)


@pytest.mark.parametrize(
    'size, expected',
    [
        ((1, 2), 0.5),  # the map alone: its places are 1 and 0
        ((2, 2), (0.25 + 0.5 / 16) / 1.5),
        ((3, 3), None),
    ],
)
def test_sizes_that_are_not_below_the_maps_height_are_left_out(size, expected):
    student = torch.zeros(1, 1, *size)
    student[0, 0, 0, 0] = 1
    if expected is None:
        pooled = torch.nn.functional.adaptive_avg_pool2d(student, 2)
        expected = (1 / 9 + 0.5 * pooled.square().mean().item() + 0.25 / 81) / 1.75
    assert hierarchical_context_distance(student, torch.zeros_like(student)).item() == pytest.approx(expected)


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(1, 2, 5, 6), checks.random_tensor(1, 2, 5, 6, seed=1)
    checks.assert_exact_gradient(hierarchical_context_distance, student, teacher)
    checks.assert_float32_inside(hierarchical_context_distance, student, teacher)


def test_without_elements_it_is_a_zero_that_backpropagates():
    nothing = torch.zeros(0, 3, 4, 4)
    checks.assert_zero_that_backpropagates(hierarchical_context_distance, nothing, nothing)


def test_bad_input_is_named():
    maps = torch.zeros(1, 2, 3, 3)
    with pytest.raises(ValueError, match='must have one shape'):
        hierarchical_context_distance(maps, maps[:, :1])
    with pytest.raises(ValueError, match=r'maps of shape \(N, C, H, W\), got \(2, 3, 3\)'):
        hierarchical_context_distance(maps[0], maps[0])

"""Cosine of places: a number by hand, a loop as reference, places without a direction, what is refused."""

import math

import pytest
import torch

from kddense.losses import CosineLoss, cosine_distance

from ..helpers import loss_checks as checks


def as_map(rows):
    """Return vectors as the places of a map of one row."""
    return torch.tensor(rows, dtype=torch.float64).T[None, :, None]


def test_a_number_by_hand():
    """The first pair is at a right angle, the second at 45 degrees."""
    student, teacher = as_map([[1, 0], [1, 1]]), as_map([[0, 1], [1, 0]])
    expected = pytest.approx((1 + 1 - math.sqrt(0.5)) / 2)
    assert cosine_distance(student, teacher).item() == expected
    assert CosineLoss()(student, teacher).item() == expected


@pytest.mark.parametrize('seed', range(3))
def test_it_is_a_mean_over_places(seed):
    student, teacher = checks.random_tensor(2, 3, 4, 5, seed=seed), checks.random_tensor(2, 3, 4, 5, seed=seed + 9)
    distances = []
    for own, other in zip(student, teacher, strict=True):
        for s, t in zip(own.flatten(1).T.tolist(), other.flatten(1).T.tolist(), strict=True):
            inner = sum(a * b for a, b in zip(s, t, strict=True))
            distances.append(1 - inner / (math.hypot(*s) * math.hypot(*t)))
    assert abs(cosine_distance(student, teacher).item() - sum(distances) / len(distances)) < 1e-9


def test_tokens_and_vectors_are_places_too():
    student, teacher = checks.random_tensor(2, 3, 4, 5), checks.random_tensor(2, 3, 4, 5, seed=1)
    expected = cosine_distance(student, teacher)
    tokens = [side.flatten(2).transpose(1, 2) for side in (student, teacher)]
    torch.testing.assert_close(cosine_distance(*tokens), expected)
    torch.testing.assert_close(cosine_distance(*(side.flatten(0, 1) for side in tokens)), expected)


def test_length_does_not_count():
    student, teacher = checks.random_tensor(2, 3, 2, 2), checks.random_tensor(2, 3, 2, 2, seed=1)
    torch.testing.assert_close(cosine_distance(7 * student, teacher / 3), cosine_distance(student, teacher))
    assert cosine_distance(student, 5 * student).item() == pytest.approx(0, abs=1e-12)


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(2, 3, 2, 3), checks.random_tensor(2, 3, 2, 3, seed=1)
    checks.assert_exact_gradient(cosine_distance, student, teacher)
    checks.assert_float32_inside(cosine_distance, student, teacher)


def test_a_place_without_a_direction_counts_one():
    student = torch.zeros(1, 3, 2, 2, requires_grad=True)
    value = cosine_distance(student, torch.ones(1, 3, 2, 2))
    value.backward()
    assert value.item() == 1
    assert not student.grad.any()


def test_no_place_is_a_zero():
    checks.assert_zero_that_backpropagates(cosine_distance, torch.ones(0, 3, 4, 4), torch.zeros(0, 3, 4, 4))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match='must have one shape'):
        cosine_distance(torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 3))
    with pytest.raises(ValueError, match=r'maps \(N, C, H, W\), tokens \(N, L, C\) or vectors \(N, C\), got \(2,\)'):
        cosine_distance(torch.ones(2), torch.ones(2))

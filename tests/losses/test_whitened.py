"""Whitened features: numbers by hand, a loop as reference, teachers of any scale, what is refused."""

import statistics

import pytest
import torch

from kddense.losses import WhitenedLoss, whitened_distance

from ..helpers import loss_checks as checks


@pytest.mark.parametrize('beta, expected', [(None, (0 + 4) / 2), (2.0, (0 + 0.5 * 2**2 / 2) / 2), (1.0, (0 + 1.5) / 2)])
def test_numbers_by_hand(beta, expected):
    """The teacher's (3, 5) is (-1, 1) when it is whitened; the student is at (-1, -1)."""
    student, teacher = torch.tensor([[-1.0, -1.0]]), torch.tensor([[3.0, 5.0]])
    assert whitened_distance(student, teacher, beta).item() == pytest.approx(expected, abs=1e-4)
    assert WhitenedLoss(beta)(student, teacher).item() == pytest.approx(expected, abs=1e-4)


def test_the_default_is_the_papers():
    student, teacher = checks.random_tensor(2, 3), checks.random_tensor(2, 3, seed=1)
    assert WhitenedLoss()(student, teacher) == whitened_distance(student, teacher, 2.0)


@pytest.mark.parametrize('beta', [None, 0.5, 2.0])
def test_it_is_a_mean_over_channels_and_places(beta):
    student, teacher = checks.random_tensor(2, 3, 4, 5), checks.random_tensor(2, 3, 4, 5, seed=1)
    distances = []
    for own, other in zip(student, teacher, strict=True):
        for s, t in zip(own.flatten(1).T.tolist(), other.flatten(1).T.tolist(), strict=True):
            mean, scale = statistics.fmean(t), (statistics.pvariance(t) + 1e-5) ** 0.5
            for a, b in zip(s, t, strict=True):
                far = abs(a - (b - mean) / scale)
                square = far**2 if beta is None else far**2 / 2 / beta
                distances.append(square if beta is None or far <= beta else far - beta / 2)
    assert whitened_distance(student, teacher, beta).item() == pytest.approx(statistics.fmean(distances), abs=1e-9)


def test_the_teachers_scale_does_not_count():
    student, teacher = checks.random_tensor(2, 8, 2, 2), checks.random_tensor(2, 8, 2, 2, seed=1)
    expected = whitened_distance(student, teacher)
    torch.testing.assert_close(whitened_distance(student, 1000 * teacher + 7), expected, rtol=1e-4, atol=1e-4)


def test_tokens_and_vectors_are_places_too():
    student, teacher = checks.random_tensor(2, 3, 4, 5), checks.random_tensor(2, 3, 4, 5, seed=1)
    expected = whitened_distance(student, teacher)
    tokens = [side.flatten(2).transpose(1, 2) for side in (student, teacher)]
    torch.testing.assert_close(whitened_distance(*tokens), expected)
    torch.testing.assert_close(whitened_distance(*(side.flatten(0, 1) for side in tokens)), expected)


@pytest.mark.parametrize('beta', [None, 2.0])
def test_gradient_and_precision(beta):
    student, teacher = checks.random_tensor(2, 3, 2, 3), checks.random_tensor(2, 3, 2, 3, seed=1)
    loss = WhitenedLoss(beta)
    checks.assert_exact_gradient(loss, student, teacher)
    checks.assert_float32_inside(loss, student, teacher)


def test_a_constant_place_is_zero():
    student = torch.full((1, 3, 2, 2), 2.0)
    assert whitened_distance(student, torch.full((1, 3, 2, 2), 1234.567), None).item() == 4


def test_no_place_is_a_zero():
    checks.assert_zero_that_backpropagates(whitened_distance, torch.ones(0, 3, 4, 4), torch.zeros(0, 3, 4, 4))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match='must have one shape'):
        whitened_distance(torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 3))
    with pytest.raises(ValueError, match=r'maps \(N, C, H, W\), tokens \(N, L, C\) or vectors \(N, C\), got \(2,\)'):
        whitened_distance(torch.ones(2), torch.ones(2))
    for make in (WhitenedLoss, lambda beta: whitened_distance(torch.ones(1, 2), torch.ones(1, 2), beta)):
        with pytest.raises(ValueError, match='beta must be above 0, got 0'):
            make(0.0)

"""OFD: the worked margins, the partial distance, and channels that a norm holds constant."""

import math

import numpy as np
import pytest
import torch

from kddense.losses import OFDLoss, negative_mean, partial_distance

from ..helpers import loss_checks as checks

TEACHER = torch.tensor([[2.0, -0.3, -2, -2, 1]], dtype=torch.float64)
STUDENT = torch.tensor([[1.0, 0.2, -3, 0.5, -1]], dtype=torch.float64)


def test_the_worked_margins():
    shift = torch.tensor([0.0, 0.5, -0.5, 4, 0.5], dtype=torch.float64)
    scale = torch.tensor([1.0, 1, 2, 1, -1], dtype=torch.float64)
    expected = torch.tensor([-0.797885, -0.641078, -1.791679, -3, -0.641078], dtype=torch.float64)
    torch.testing.assert_close(negative_mean(shift, scale), expected, rtol=1e-5, atol=0)


def test_a_margin_is_what_is_seen_below_0():
    values = 0.3 + 1.7 * np.random.default_rng(0).normal(size=400_000)
    margin = negative_mean(torch.tensor([0.3]), torch.tensor([1.7]))
    assert margin.item() == pytest.approx(values[values < 0].mean(), rel=5e-3)


def test_a_constant_channel_has_its_own_value():
    margin = negative_mean(torch.tensor([-0.4, 0.4, 0.0]), torch.zeros(3))
    torch.testing.assert_close(margin, torch.tensor([-0.4, 0.0, 0.0]))


def test_the_worked_distance():
    assert partial_distance(STUDENT, TEACHER, -0.8).item() == pytest.approx(6.94)
    for column, value in enumerate((1, 0.25, 0, 1.69, 4)):
        one = slice(column, column + 1)
        assert partial_distance(STUDENT[:, one], TEACHER[:, one], -0.8).item() == pytest.approx(value)


def test_agrees_with_a_loop():
    student, teacher = checks.random_tensor(3, 4, 2, 5), checks.random_tensor(3, 4, 2, 5, seed=1)
    margin = -checks.random_tensor(4, seed=2).abs()
    expected = 0.0
    for place in np.ndindex(3, 4, 2, 5):
        own, other = student[place].item(), max(teacher[place].item(), margin[place[1]].item())
        expected += 0 if own <= other <= 0 else (own - other) ** 2
    assert partial_distance(student, teacher, margin).item() == pytest.approx(expected / 3)


def test_without_a_margin_the_teacher_is_the_target():
    value = OFDLoss()(STUDENT, TEACHER)
    assert value.item() == pytest.approx(1 + 0.25 + 0 + 2.5**2 + 4)
    assert OFDLoss()(STUDENT, TEACHER, -math.inf) == value


def test_gradient_and_precision():
    margin = torch.tensor([-0.2, -0.5, -1.0])
    student, teacher = checks.random_tensor(2, 3, 2, 2), checks.random_tensor(2, 3, 2, 2, seed=1)
    checks.assert_exact_gradient(lambda s, t: partial_distance(s, t, margin), student, teacher)
    checks.assert_float32_inside(lambda s, t: partial_distance(s, t, margin), student, teacher)


def test_no_image_is_a_zero():
    checks.assert_zero_that_backpropagates(OFDLoss(), torch.ones(0, 3, 4, 4), torch.ones(0, 3, 4, 4))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'one shape, got \(1, 5\), \(1, 3\)'):
        partial_distance(STUDENT, TEACHER[:, :3], -1.0)
    with pytest.raises(ValueError, match=r'a number or one for each of 5 channels, got \(2,\)'):
        partial_distance(STUDENT, TEACHER, torch.zeros(2))

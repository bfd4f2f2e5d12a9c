"""CrossKD: numbers by hand, plain references, exact gradients, channels without spread."""

import math

import numpy as np
import pytest
import torch

from kddense.losses import QualityFocalDivergenceLoss, centerness, matched_statistics, quality_focal_divergence

from ..helpers import loss_checks as checks


def logits(probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).logit()


def test_a_number_by_hand():
    student, teacher = logits([0.2, 0.9]), logits([0.6, 0.8])
    each = [quality_focal_divergence(*pair) for pair in zip(student.view(2, 1, 1), teacher.view(2, 1, 1), strict=True)]
    assert [value.item() for value in each] == pytest.approx([0.421968, 0.054481], abs=1e-6)
    both = QualityFocalDivergenceLoss()(student[:, None], teacher[:, None])
    assert both.item() == pytest.approx((0.421968 + 0.054481) / 2, abs=1e-6)


@pytest.mark.parametrize('beta', [1.0, 2.0])
def test_it_is_a_sum_of_weighted_entropies(beta):
    student, teacher = checks.random_tensor(5, 3), checks.random_tensor(5, 3, seed=1)
    expected = 0.0
    for row in range(5):
        for column in range(3):
            s, t = (1 / (1 + math.exp(-side[row, column].item())) for side in (student, teacher))
            expected -= abs(s - t) ** beta * (t * math.log(s) + (1 - t) * math.log(1 - s))
    assert quality_focal_divergence(student, teacher, beta, average=7).item() == pytest.approx(expected / 7)
    assert quality_focal_divergence(student, teacher, beta).item() == pytest.approx(expected / 5)


def test_a_perfect_student_has_no_loss():
    student = checks.random_tensor(4, 3).requires_grad_()
    value = quality_focal_divergence(student, student.detach().clone())
    value.backward()
    assert value.item() == 0
    assert not student.grad.any()


def test_channels_get_the_teachers_mean_and_deviation():
    student, teacher = 3 * checks.random_tensor(2, 4, 3, 5) + 1, checks.random_tensor(2, 4, 3, 5, seed=1) - 2
    matched = matched_statistics(student, teacher)
    for channel in range(4):
        own, other, found = (side[:, channel].numpy() for side in (student, teacher, matched))
        expected = (own - own.mean()) / (own.std(ddof=1) + 1e-6) * other.std(ddof=1) + other.mean()
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    torch.testing.assert_close(matched_statistics(teacher, teacher), teacher, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('shape', [(1, 2, 1, 1), (2, 2, 3, 3)])
def test_channels_without_spread_become_the_teachers_mean(shape):
    student = torch.ones(shape).requires_grad_()
    teacher = checks.random_tensor(*shape, dtype=torch.float32)
    matched = matched_statistics(student, teacher)
    matched.square().sum().backward()
    torch.testing.assert_close(matched, teacher.mean((0, 2, 3), keepdim=True).expand(shape), atol=1e-5, rtol=0)
    assert student.grad.isfinite().all()


def test_centerness_is_that_of_fcos():
    distances = torch.tensor([[1.0, 1, 1, 1], [1, 2, 4, 2], [0, 1, 1, 1], [0, 0, 0, 0]])
    torch.testing.assert_close(centerness(distances), torch.tensor([1, 0.5, 0, 0]))


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(4, 3), checks.random_tensor(4, 3, seed=1)
    checks.assert_exact_gradient(quality_focal_divergence, student, teacher)
    checks.assert_float32_inside(quality_focal_divergence, student, teacher)
    student, teacher = checks.random_tensor(2, 2, 2, 3), checks.random_tensor(2, 2, 2, 3, seed=1)
    weights = checks.random_tensor(2, 2, 2, 3, seed=2)

    def weighed(own, other):
        return (weights.to(own.dtype) * matched_statistics(own, other)).sum()

    checks.assert_exact_gradient(weighed, student, teacher)
    assert matched_statistics(student.bfloat16(), teacher.bfloat16()).dtype == torch.float32


def test_no_sample_is_a_zero():
    checks.assert_zero_that_backpropagates(quality_focal_divergence, torch.ones(0, 3), torch.ones(0, 3))
    assert matched_statistics(torch.ones(0, 2, 3, 3), torch.ones(0, 2, 3, 3)).shape == (0, 2, 3, 3)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match='must have one shape'):
        quality_focal_divergence(torch.ones(1, 2), torch.ones(1, 3))
    with pytest.raises(ValueError, match=r'maps of shape \(N, C, H, W\), got \(2, 2\)'):
        matched_statistics(torch.ones(2, 2), torch.ones(2, 2))
    with pytest.raises(ValueError, match='beta must be at least 1, got 0.5'):
        QualityFocalDivergenceLoss(0.5)

"""Instance-normalised distance: a number by hand, correlation as reference, constant channels, maps of one place."""

import numpy as np
import pytest
import torch

from kddense.losses import InstanceNormalisedLoss, instance_normalised_distance

from ..helpers import loss_checks as checks


def test_a_number_by_hand():
    """Of (0, 0, 1, 1) and (0, 1, 2, 3) the correlation is 2 / √5."""
    student = torch.tensor([0.0, 0, 1, 1], dtype=torch.float64).view(1, 1, 2, 2)
    teacher = torch.tensor([0.0, 1, 2, 3], dtype=torch.float64).view(1, 1, 2, 2)
    expected = pytest.approx(1 - 2 / 5**0.5, abs=1e-4)
    assert instance_normalised_distance(student, teacher).item() == expected
    assert InstanceNormalisedLoss()(student, teacher).item() == expected


def test_it_is_one_minus_the_correlation_of_each_image():
    student, teacher = 100 * checks.random_tensor(2, 3, 4, 5), 100 * checks.random_tensor(2, 3, 4, 5, seed=1)
    rows = [side.flatten(0, 1).flatten(1).numpy() for side in (student, teacher)]
    expected = np.mean([1 - np.corrcoef(own, other)[0, 1] for own, other in zip(*rows, strict=True)])
    assert instance_normalised_distance(student, teacher).item() == pytest.approx(expected, rel=1e-6)


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(2, 2, 2, 3), checks.random_tensor(2, 2, 2, 3, seed=1)
    checks.assert_exact_gradient(instance_normalised_distance, student, teacher)
    checks.assert_float32_inside(instance_normalised_distance, student, teacher)


@pytest.mark.parametrize('constant', [0.0, 1000.1])
def test_constant_channels_count_a_half(constant):
    student = torch.full((1, 2, 8, 8), constant).requires_grad_()
    value = instance_normalised_distance(student, checks.random_tensor(1, 2, 8, 8, dtype=torch.float32))
    value.backward()
    assert value.item() == pytest.approx(0.5, rel=1e-3)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('shape', [(2, 3, 1, 1), (0, 3, 4, 4)])
def test_maps_too_small_are_a_zero(shape):
    checks.assert_zero_that_backpropagates(instance_normalised_distance, torch.ones(shape), torch.zeros(shape))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match='must have one shape'):
        instance_normalised_distance(torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 3))
    with pytest.raises(ValueError, match=r'maps of shape \(N, C, H, W\), got \(2, 2\)'):
        instance_normalised_distance(torch.ones(2, 2), torch.ones(2, 2))

"""Activation boundaries: the worked example, the authors' form as reference, the teacher's signs alone."""

import pytest
import torch

from kddense.losses import ABLoss, boundary_distance

from ..helpers import loss_checks as checks

TEACHER = torch.tensor([[2.0, -0.3, -2, 0.5]], dtype=torch.float64)
STUDENT = torch.tensor([[0.5, 0.2, -3, -1.5]], dtype=torch.float64)


def test_the_worked_example():
    assert boundary_distance(STUDENT, TEACHER).item() == pytest.approx(7.94)
    for column, value in enumerate((0.25, 1.44, 0, 6.25)):
        each = boundary_distance(STUDENT[:, column], TEACHER[:, column]).item()
        assert each == pytest.approx(value)


@pytest.mark.parametrize('margin', [1.0, 0.3])
def test_agrees_with_the_authors_form(margin):
    student, teacher = checks.random_tensor(3, 4, 5, 6), checks.random_tensor(3, 4, 5, 6, seed=1)
    below = (student + margin).square() * ((student > -margin) & (teacher <= 0))
    above = (student - margin).square() * ((student <= margin) & (teacher > 0))
    torch.testing.assert_close(boundary_distance(student, teacher, margin), (below + above).sum() / 3)


def test_only_signs_of_the_teacher_matter():
    torch.testing.assert_close(boundary_distance(STUDENT, TEACHER), boundary_distance(STUDENT, TEACHER.sign()))
    assert boundary_distance(STUDENT, torch.zeros_like(TEACHER)) == boundary_distance(
        STUDENT, -torch.ones_like(TEACHER)
    )


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(2, 3, 2, 2), checks.random_tensor(2, 3, 2, 2, seed=1)
    checks.assert_exact_gradient(ABLoss(), student, teacher)
    checks.assert_float32_inside(ABLoss(), student, teacher)


def test_no_image_is_a_zero():
    checks.assert_zero_that_backpropagates(boundary_distance, torch.ones(0, 3, 4, 4), torch.ones(0, 3, 4, 4))
    checks.assert_zero_that_backpropagates(boundary_distance, torch.full((1, 1), 2.0), torch.ones(1, 1))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'one shape, got \(1, 4\), \(1, 3\)'):
        boundary_distance(STUDENT, TEACHER[:, :3])
    with pytest.raises(ValueError, match='margin must be above 0, got 0'):
        ABLoss(margin=0)

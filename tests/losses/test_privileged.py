"""Generalized distillation: the worked example, what T does to whom, edges."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from kddense.losses import ImitationLoss, imitation, sigmoid_soft_target_divergence, soft_target_divergence

TEACHER, STUDENT = torch.tensor([[2.0, 0.0]], dtype=torch.float64), torch.tensor([[0.5, -0.5]], dtype=torch.float64)


def entropy(temperature):
    soft = (TEACHER / temperature).softmax(1)
    return float(-(soft * soft.log()).sum())


@pytest.mark.parametrize('temperature, expected', [(1.0, 0.372863), (5.0, 0.513918)])
def test_the_worked_example(temperature, expected):
    """METHODS' EX 17, λ = ½: half the label's cross-entropy and half that with the soft labels."""
    label = float(F.cross_entropy(STUDENT, torch.tensor([0])))
    soft = float(imitation(STUDENT, TEACHER, temperature)) + entropy(temperature)
    assert (label + soft) / 2 == pytest.approx(expected, abs=1e-6)


def test_the_code_multiplies_by_the_square_of_t():
    label = float(F.cross_entropy(STUDENT, torch.tensor([0])))
    soft = 25 * (float(imitation(STUDENT, TEACHER, 5.0)) + entropy(5.0))
    assert (label + soft) / 2 == pytest.approx(9.088806, abs=1e-5)
    assert float(imitation(STUDENT, TEACHER, 5.0, 'code')) == pytest.approx(
        25 * float(imitation(STUDENT, TEACHER, 5.0))
    )


def test_t_of_1_is_soft_targets_and_the_student_has_none():
    student, teacher = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(imitation(student, teacher), soft_target_divergence(student, teacher))
    found = imitation(student, teacher, classes='sigmoid')
    torch.testing.assert_close(found, sigmoid_soft_target_divergence(student, teacher))
    assert float(imitation(teacher / 3, teacher, 3.0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('classes', ['softmax', 'sigmoid'])
def test_gradients_and_edges(classes):
    loss = ImitationLoss(3.0, classes=classes)
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student)
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert loss(student.bfloat16(), teacher.bfloat16()).dtype == torch.float32
    empty = torch.zeros(0, 4, requires_grad=True)
    loss(empty, torch.zeros(0, 4)).backward()
    assert empty.grad.shape == (0, 4)
    assert torch.isfinite(loss(student, torch.tensor([[0.0, 1.0, -float('inf'), 0.0]] * 3)))
    assert torch.isnan(loss(student * float('nan'), teacher))


def test_bad_options():
    with pytest.raises(ValueError, match='temperature must be above 0'):
        ImitationLoss(0.0)
    with pytest.raises(ValueError, match='mode must be one of'):
        ImitationLoss(mode='both')

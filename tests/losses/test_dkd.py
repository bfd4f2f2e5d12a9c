"""Decoupled soft targets: the worked example, what they add up to, the background, samples without a class."""

import pytest
import torch

from kddense.losses import (
    DKDLoss,
    decoupled_divergence,
    sigmoid_soft_target_divergence,
    soft_target_divergence,
)

from ..helpers import loss_checks as checks

TEACHER = torch.tensor([[2.0, 1, 0]], dtype=torch.float64)
STUDENT = torch.tensor([[1.0, 0, 0]], dtype=torch.float64)
LABEL = torch.tensor([0])
LABELS = torch.tensor([0, 3, 1, 2, 2])


@pytest.mark.parametrize(
    'alpha, beta, value', [(1, 0, 0.0166686), (0, 1, 0.110944), (1, 8, 0.904221), (1, 1 - 0.665241, 0.0538082)]
)
def test_the_worked_example(alpha, beta, value):
    assert decoupled_divergence(STUDENT, TEACHER, LABEL, alpha, beta, 1.0).item() == pytest.approx(value, rel=1e-5)
    assert DKDLoss(alpha, beta, 1.0)(STUDENT, TEACHER, LABEL).item() == pytest.approx(value, rel=1e-5)


def test_each_sample_adds_up_to_soft_targets():
    student, teacher = 5 * checks.random_tensor(5, 4), 5 * checks.random_tensor(5, 4, seed=1)
    total = 0.0
    for own, other, label in zip(student.split(1), teacher.split(1), LABELS.split(1), strict=True):
        rest = 1 - (other / 3).softmax(1)[0, label].item()
        total += decoupled_divergence(own, other, label, 1, rest, 3.0)
    torch.testing.assert_close(total / 5, soft_target_divergence(student, teacher, 3.0))


def test_sigmoid_classes_are_decided_one_by_one():
    student, teacher = checks.random_tensor(5, 4), checks.random_tensor(5, 4, seed=1)
    labels = torch.tensor([0, 4, 1, 4, 3])  # 4 is the background
    pairs = zip(student.flatten(), teacher.flatten(), strict=True)
    each = torch.stack([sigmoid_soft_target_divergence(s.view(1, 1), t.view(1, 1), 2.0) for s, t in pairs]).view(5, 4)
    true = torch.zeros(5, 4, dtype=torch.bool)
    true[0, 0] = true[2, 1] = true[4, 3] = True
    expected = (2 * each[true].sum() + 3 * each[~true].sum()) / 5
    torch.testing.assert_close(decoupled_divergence(student, teacher, labels, 2, 3, 2.0, 'sigmoid'), expected)
    both = decoupled_divergence(student, teacher, labels, 1, 1, 2.0, 'sigmoid')
    torch.testing.assert_close(both, sigmoid_soft_target_divergence(student, teacher, 2.0))


def test_pixels_are_rows_and_those_without_a_class_are_left_out():
    student, teacher = checks.random_tensor(2, 4, 3, 3), checks.random_tensor(2, 4, 3, 3, seed=1)
    labels = torch.arange(18).view(2, 3, 3) % 5 - 1
    rows = [side.permute(0, 2, 3, 1).reshape(-1, 4)[labels.flatten() >= 0] for side in (student, teacher)]
    expected = decoupled_divergence(*rows, labels[labels >= 0])
    torch.testing.assert_close(decoupled_divergence(student, teacher, labels), expected)


@pytest.mark.parametrize('classes', ['softmax', 'sigmoid'])
def test_gradient_and_precision(classes):
    student, teacher = checks.random_tensor(5, 4), checks.random_tensor(5, 4, seed=1)
    loss = DKDLoss(temperature=2.0, classes=classes)
    checks.assert_exact_gradient(lambda s, t: loss(s, t, LABELS), student, teacher)
    checks.assert_float32_inside(lambda s, t: loss(s, t, LABELS), student, teacher)


@pytest.mark.parametrize('classes', ['softmax', 'sigmoid'])
def test_great_logits_are_safe(classes):
    student = torch.tensor([[300.0, -300, 0], [-300, 300, 0]]).requires_grad_()
    teacher = torch.tensor([[-300.0, 0, 300], [300, -300, 0]])
    value = decoupled_divergence(student, teacher, torch.tensor([0, 1]), temperature=1.0, classes=classes)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_without_samples_it_is_a_zero_that_backpropagates():
    nothing = torch.zeros(0, 3)
    checks.assert_zero_that_backpropagates(lambda s, t: DKDLoss()(s, t, torch.zeros(0).long()), nothing, nothing)
    rows = torch.ones(2, 3)
    checks.assert_zero_that_backpropagates(lambda s, t: DKDLoss()(s, t, torch.tensor([-1, -1])), rows, 2 * rows)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match='labels must be at most 2 for 3 classes, got 3'):
        decoupled_divergence(STUDENT, TEACHER, torch.tensor([3]))
    with pytest.raises(ValueError, match=r'labels must be integers of shape \(1,\), got torch.float32 \(1,\)'):
        decoupled_divergence(STUDENT, TEACHER, torch.zeros(1))
    with pytest.raises(ValueError, match=r'softmax classes must be at least two, got logits of shape \(1, 1\)'):
        decoupled_divergence(STUDENT[:, :1], TEACHER[:, :1], LABEL)
    with pytest.raises(ValueError, match='beta must be at least 0, got -1'):
        DKDLoss(beta=-1)

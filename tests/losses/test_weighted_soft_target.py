"""Class-weighted soft targets: the worked examples, background first and last, one sigmoid logit as two columns."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kddense.losses import (
    WeightedSoftTargetLoss,
    soft_target_divergence,
    weighted_soft_binary_cross_entropy,
    weighted_soft_cross_entropy,
)

TEACHER = torch.tensor([[2.0, 0, 0], [0, 2, 0]], dtype=torch.float64)
STUDENT = torch.tensor([[1.0, 0, 0], [0, 1, 1]], dtype=torch.float64)


@pytest.mark.parametrize(
    'weight, expected',
    [
        ([1.5, 1, 1], [0.981448, 1.067660]),
        ([1, 1, 1], [0.764459, 0.968502]),
    ],
)
def test_values_by_hand(weight, expected):
    per_row = weighted_soft_cross_entropy(STUDENT, TEACHER, torch.tensor(weight))
    np.testing.assert_allclose(per_row, expected, rtol=1e-5)


def test_mixed_with_the_hard_loss_by_hand():
    hard = F.cross_entropy(STUDENT, torch.tensor([0, 1]))
    soft = WeightedSoftTargetLoss(background_weight=1.5)(STUDENT, TEACHER, background_index=0)
    np.testing.assert_allclose(0.5 * hard + 0.5 * soft, 0.865637, rtol=1e-5)


def test_background_is_last_by_default():
    """Taking the wrong column changes the value: the first row again, with the weight on its last column."""
    loss = WeightedSoftTargetLoss()
    np.testing.assert_allclose(loss(STUDENT[:1], TEACHER[:1]), 0.847079, rtol=1e-5)
    np.testing.assert_allclose(loss(STUDENT[:1], TEACHER[:1], background_index=0), 0.981448, rtol=1e-5)
    turned = loss(STUDENT[:1].flip(1), TEACHER[:1].flip(1))
    np.testing.assert_allclose(turned, 0.981448, rtol=1e-5)


def test_one_sigmoid_logit_by_hand():
    logit = torch.special.logit(torch.tensor([0.6, 0.8], dtype=torch.float64))
    student, teacher = torch.stack([logit, torch.zeros_like(logit)], dim=1).split(1)
    np.testing.assert_allclose(WeightedSoftTargetLoss()(student, teacher), 0.683548, rtol=1e-5)


def test_one_sigmoid_logit_is_two_columns_at_any_temperature():
    z_s, z_t = np.random.default_rng(0).normal(size=(2, 32)) * 4
    p_s, p_t = (1 / (1 + np.exp(-z / 3)) for z in (z_s, z_t))
    expected = -9 * (p_t * np.log(p_s) + 1.5 * (1 - p_t) * np.log(1 - p_s))
    student, teacher = (torch.from_numpy(np.stack([z, np.zeros(32)], axis=1)) for z in (z_s, z_t))
    got = weighted_soft_cross_entropy(student, teacher, torch.tensor([1.0, 1.5]), temperature=3.0)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_agrees_with_a_loop():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 32, 6)) * 3
    weight = rng.uniform(0, 2, size=6)
    expected = []
    for s, t in zip(student, teacher, strict=True):
        p_s, p_t = (np.exp(z / 2.5) / sum(np.exp(z / 2.5)) for z in (s, t))
        expected.append(-(2.5**2) * sum(w * a * np.log(b) for w, a, b in zip(weight, p_t, p_s, strict=True)))
    got = weighted_soft_cross_entropy(*map(torch.from_numpy, (student, teacher, weight)), temperature=2.5)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_without_a_weight_only_the_entropy_parts_it_from_hinton():
    loss = WeightedSoftTargetLoss(background_weight=1, temperature=2.0)
    student, teacher = (logits.clone().requires_grad_() for logits in (STUDENT, TEACHER))
    (by_weight,) = torch.autograd.grad(loss(student, teacher), student)
    (by_hinton,) = torch.autograd.grad(soft_target_divergence(student, teacher, temperature=2.0), student)
    torch.testing.assert_close(by_weight, by_hinton)
    gap = loss(STUDENT, TEACHER) - soft_target_divergence(STUDENT, TEACHER, temperature=2.0)
    torch.testing.assert_close(gap, loss(TEACHER, TEACHER))


def test_the_sum_is_divided_by_the_rows_or_by_what_was_sampled():
    per_row = weighted_soft_cross_entropy(STUDENT, TEACHER, torch.tensor([1, 1, 1.5]))
    torch.testing.assert_close(WeightedSoftTargetLoss()(STUDENT, TEACHER), per_row.sum() / 2)
    torch.testing.assert_close(WeightedSoftTargetLoss()(STUDENT, TEACHER, num_sampled=8), per_row.sum() / 8)


def test_gradient_is_exact():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    loss = WeightedSoftTargetLoss(temperature=2.0)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student.requires_grad_())


def test_the_teacher_gets_no_gradient():
    student, teacher = (logits.clone().requires_grad_() for logits in (STUDENT, TEACHER))
    WeightedSoftTargetLoss()(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.all()


@pytest.mark.parametrize('num_sampled', [None, 0])
def test_no_rows_is_a_zero_that_back_propagates(num_sampled):
    student = torch.zeros(0, 3, requires_grad=True)
    loss = WeightedSoftTargetLoss()(student, torch.zeros(0, 3), num_sampled=num_sampled)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.shape == (0, 3)


def test_half_precision_logits_are_computed_in_float32():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (20 * torch.randn(2, 64, 21, generator=generator)).bfloat16()
    expected = WeightedSoftTargetLoss()(student.double(), teacher.double())
    student.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = WeightedSoftTargetLoss()(student, teacher.float())
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    assert student.grad.isfinite().all()


def test_bad_input_is_named():
    weight = torch.ones(3)
    with pytest.raises(ValueError, match=r'student and teacher must have one shape, got \(2, 3\), \(1, 3\)'):
        weighted_soft_cross_entropy(STUDENT, TEACHER[:1], weight)
    with pytest.raises(ValueError, match=r'shape \(R, C\), got \(2, 3, 4\)'):
        weighted_soft_cross_entropy(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), weight)
    with pytest.raises(ValueError, match=r'class_weight must have shape \(3,\), got \(1,\)'):
        weighted_soft_cross_entropy(STUDENT, TEACHER, weight[:1])
    with pytest.raises(ValueError, match='temperature must be above 0, got -1'):
        weighted_soft_cross_entropy(STUDENT, TEACHER, weight, temperature=-1)
    with pytest.raises(ValueError, match='temperature must be above 0, got 0'):
        WeightedSoftTargetLoss(temperature=0)
    with pytest.raises(ValueError, match='background_weight must be at least 0, got -1.5'):
        WeightedSoftTargetLoss(background_weight=-1.5)
    with pytest.raises(ValueError, match='background_index must name one of 3 columns, got 3'):
        WeightedSoftTargetLoss()(STUDENT, TEACHER, background_index=3)


# --- sigmoid classes ----------------------------------------------------------------------------------------------------


def test_the_background_of_a_sigmoid_is_what_is_left_of_each_class():
    student, teacher = (torch.tensor([[p, 0.6]], dtype=torch.float64).logit() for p in (0.6, 0.8))
    by_hand = 0.683548 + -(0.6 * np.log(0.6) + 1.5 * 0.4 * np.log(0.4))
    loss = WeightedSoftTargetLoss(mode='sigmoid')
    np.testing.assert_allclose(loss(student, teacher), by_hand, rtol=1e-6)
    np.testing.assert_allclose(loss(student[:, :1], teacher[:, :1]), 0.683548, rtol=1e-6)


def test_a_sigmoid_is_the_softmax_of_its_logit_and_0_class_by_class():
    student, teacher = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 16, 5)) * 4)
    got = weighted_soft_binary_cross_entropy(student, teacher, background_weight=0.7, temperature=2.0)
    columns = [torch.stack([z.flatten(), torch.zeros(80, dtype=z.dtype)], dim=1) for z in (student, teacher)]
    expected = weighted_soft_cross_entropy(*columns, torch.tensor([1, 0.7]), temperature=2.0)
    torch.testing.assert_close(got, expected.view(16, 5).sum(1))


def test_sigmoid_rows_by_a_loop():
    student, teacher = np.random.default_rng(2).normal(size=(2, 7, 3)) * 3
    p_s, p_t = (1 / (1 + np.exp(-z / 1.5)) for z in (student, teacher))
    expected = [
        -(1.5**2) * sum(t * np.log(s) + 1.5 * (1 - t) * np.log(1 - s) for s, t in zip(row_s, row_t, strict=True))
        for row_s, row_t in zip(p_s, p_t, strict=True)
    ]
    got = weighted_soft_binary_cross_entropy(*map(torch.from_numpy, (student, teacher)), 1.5, temperature=1.5)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_the_sigmoid_gradient_is_exact_and_the_teachers_none():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    loss = WeightedSoftTargetLoss(temperature=2.0, mode='sigmoid')
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, num_sampled=3), student.requires_grad_())
    teacher.requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_sigmoids_of_low_precision_are_computed_in_float32(dtype):
    student, teacher = (torch.tensor([[-20.0, 3.0]], dtype=dtype), torch.tensor([[-9.0, -9.0]], dtype=dtype))
    got = weighted_soft_binary_cross_entropy(student, teacher)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, weighted_soft_binary_cross_entropy(student.double(), teacher.double()).float())
    assert got.isfinite()


def test_no_sigmoid_rows_are_a_zero_that_back_propagates():
    student = torch.zeros(0, 3, requires_grad=True)
    loss = WeightedSoftTargetLoss(mode='sigmoid')(student, torch.zeros(0, 3), num_sampled=0)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.shape == (0, 3)


@pytest.mark.parametrize(
    'arguments, expected',
    [
        ((torch.zeros(2, 3), torch.zeros(2, 2)), r'student and teacher must have one shape'),
        ((torch.zeros(2), torch.zeros(2)), r'must be rows of logits, shape \(R, K\), got \(2,\)'),
        ((torch.zeros(2, 3), torch.zeros(2, 3), -1.0), 'background_weight must be at least 0, got -1'),
        ((torch.zeros(2, 3), torch.zeros(2, 3), 1.5, 0.0), 'temperature must be above 0, got 0'),
    ],
)
def test_bad_input_of_sigmoids(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        weighted_soft_binary_cross_entropy(*arguments)


def test_a_mode_that_does_not_exist():
    with pytest.raises(ValueError, match="mode must be one of 'softmax', 'sigmoid', got 'relu'"):
        WeightedSoftTargetLoss(mode='relu')

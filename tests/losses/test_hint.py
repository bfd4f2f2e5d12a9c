"""Hints: the worked example, a loop, the two scales, precision, edges."""

import numpy as np
import pytest
import torch

from kddense.losses import HintLoss, fitnets_distance, hint_distance

ALL = pytest.mark.parametrize('loss', [HintLoss(), HintLoss(norm='l1'), HintLoss(mode='fitnets')], ids=repr)


@pytest.mark.parametrize('options, expected', [({}, 1.5), ({'mode': 'fitnets'}, 3.0), ({'norm': 'l1'}, 1.0)])
def test_values_by_hand(options, expected):
    teacher = torch.tensor([[[[1.0, 2], [3, 4]]]])
    student = torch.tensor([[[[1.0, 1], [2, 2]]]])
    assert HintLoss(**options)(student, teacher).item() == expected


def test_agrees_with_a_loop():
    student, teacher = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6))
    squares, absolutes = 0.0, 0.0
    for s, t in zip(student.flat, teacher.flat, strict=True):
        squares += (s - t) ** 2
        absolutes += abs(s - t)
    student, teacher = torch.from_numpy(student), torch.from_numpy(teacher)
    np.testing.assert_allclose(hint_distance(student, teacher), squares / 360, rtol=1e-12)
    np.testing.assert_allclose(hint_distance(student, teacher, norm='l1'), absolutes / 360, rtol=1e-12)
    np.testing.assert_allclose(fitnets_distance(student, teacher), squares / 2 / 3, rtol=1e-12)


@ALL
def test_gradient_is_exact(loss):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 2, 2, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student.requires_grad_())


@ALL
def test_the_teacher_gets_no_gradient(loss):
    student, teacher = (torch.full((2, 3), value, requires_grad=True) for value in (1.0, 2.0))
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert (student.grad < 0).all()  # towards the teacher


@ALL
def test_nothing_to_compare_is_a_zero_that_back_propagates(loss):
    student = torch.zeros(0, 8, requires_grad=True)
    value = loss(student, torch.zeros(0, 8))
    value.backward()
    assert value.item() == 0
    assert student.grad.shape == (0, 8)


@ALL
def test_half_precision_features_are_computed_in_float32(loss):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (100 * torch.randn(2, 2, 64, 16, 16, generator=generator)).bfloat16()
    expected = loss(student.double(), teacher.double())
    student.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(student, teacher.float())  # a teacher of another precision
    value.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    assert student.grad.isfinite().all()


def test_squares_do_not_overflow_in_float16():
    student = torch.full((1, 4), 300.0, dtype=torch.float16)
    assert HintLoss()(student, -student).item() == 600.0**2


@ALL
def test_other_shapes_are_refused_not_broadcast(loss):
    with pytest.raises(ValueError, match=r'one shape, got \(2, 3, 4, 4\), \(2, 1, 4, 4\)'):
        loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="norm must be one of 'l2', 'l1', got 'l3'"):
        HintLoss(norm='l3')
    with pytest.raises(ValueError, match="norm must be one of 'l2', 'l1', got 'l3'"):
        hint_distance(torch.zeros(1), torch.zeros(1), norm='l3')
    with pytest.raises(ValueError, match="mode must be one of 'mean', 'fitnets', got 'sum'"):
        HintLoss(mode='sum')
    with pytest.raises(ValueError, match="mode='fitnets' is a squared distance and needs norm='l2', got norm='l1'"):
        HintLoss(norm='l1', mode='fitnets')
    with pytest.raises(ValueError, match='batch dimension'):
        fitnets_distance(torch.tensor(0.0), torch.tensor(0.0))

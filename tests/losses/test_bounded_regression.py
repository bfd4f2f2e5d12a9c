"""Teacher-bounded regression: the paper's rule, its gradient, its edges; and the imitation it is compared with."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kddense.losses import BoundedRegressionLoss, BoxImitationLoss, bounded_regression, box_imitation

TARGET = torch.zeros(4, 4, dtype=torch.float64)
TEACHER = torch.tensor([[0.2, 0, 0, 0]] * 4, dtype=torch.float64)
STUDENT = torch.tensor([[0.3, 0, 0, 0], [0.1, 0, 0, 0], [0.15, 0.1, 0, 0], [0, 0, 0, 0.2]], dtype=torch.float64)
NORMS = pytest.mark.parametrize('norm', ['l2', 'l1'])


@pytest.mark.parametrize('margin, expected', [(0.0, [0.09, 0, 0, 0]), (0.01, [0.09, 0, 0.0325, 0.04])])
def test_values_by_hand(margin, expected):
    """The last box ties with the teacher exactly: at margin 0 it is left alone."""
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(bounded_regression(STUDENT, TEACHER, TARGET, margin), expected)
    loss = BoundedRegressionLoss(margin)(STUDENT, TEACHER, TARGET, num_sampled=4)
    torch.testing.assert_close(loss, expected.mean())


def test_with_the_hard_loss_by_hand():
    """The sum that the paper trains on: smooth L1 to the ground truth, and ν = 0.5 times the bounded term."""
    hard = F.smooth_l1_loss(STUDENT, TARGET, reduction='sum') / 4
    total = hard + 0.5 * BoundedRegressionLoss()(STUDENT, TEACHER, TARGET, num_sampled=4)
    np.testing.assert_allclose(total, 0.0328125, rtol=1e-5)


def test_absolute_errors_by_hand():
    """In L1 the third box, 0.25 off, is worse than the teacher, 0.2 off, though it is better in L2."""
    expected = torch.tensor([0.3, 0, 0.25, 0], dtype=torch.float64)
    torch.testing.assert_close(bounded_regression(STUDENT, TEACHER, TARGET, norm='l1'), expected)
    loss = BoundedRegressionLoss(norm='l1')(STUDENT, TEACHER, TARGET, num_sampled=8)
    torch.testing.assert_close(loss, expected.sum() / 8)


@pytest.mark.parametrize('norm, power', [('l2', 2), ('l1', 1)])
def test_agrees_with_a_loop(norm, power):
    student, teacher, target = np.random.default_rng(0).normal(size=(3, 64, 4))
    bounded, imitated = [], []
    for s, t, y in zip(student, teacher, target, strict=True):
        error = sum(abs(s - y) ** power)
        bounded.append(error if error + 0.3 > sum(abs(t - y) ** power) else 0.0)
        imitated.append(sum(abs(s - t) ** power))
    assert 0 < np.count_nonzero(bounded) < 64
    student, teacher, target = map(torch.from_numpy, (student, teacher, target))
    np.testing.assert_allclose(bounded_regression(student, teacher, target, 0.3, norm), bounded, rtol=1e-12)
    np.testing.assert_allclose(box_imitation(student, teacher, norm), imitated, rtol=1e-12)
    loss = BoxImitationLoss(norm)(student, teacher, target, num_sampled=256)
    np.testing.assert_allclose(loss, sum(imitated) / 256, rtol=1e-12)


def test_the_teacher_is_a_gate_never_a_target():
    student, teacher = (boxes.clone().requires_grad_() for boxes in (STUDENT, TEACHER))
    bounded_regression(student, teacher, TARGET).sum().backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad[0], 2 * STUDENT[0])  # plain L2 to the ground truth
    assert not student.grad[1].any()  # already better than the teacher


def test_imitation_goes_to_the_teacher():
    student, teacher = (boxes.clone().requires_grad_() for boxes in (STUDENT, TEACHER))
    box_imitation(student, teacher).sum().backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad, 2 * (STUDENT - TEACHER))


@NORMS
def test_gradient_is_exact(norm):
    generator = torch.Generator().manual_seed(0)
    student, teacher, target = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda s: bounded_regression(s, teacher, target, 0.1, norm), student.requires_grad_()
    )
    assert torch.autograd.gradcheck(lambda s: box_imitation(s, teacher, norm), student)


@pytest.mark.parametrize('module', [BoundedRegressionLoss(), BoxImitationLoss()], ids=repr)
def test_no_boxes_is_a_zero_that_back_propagates(module):
    student = torch.zeros(0, 4, requires_grad=True)
    loss = module(student, torch.zeros(0, 4), torch.zeros(0, 4), num_sampled=0)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.shape == (0, 4)


@pytest.mark.parametrize('module', [BoundedRegressionLoss(), BoxImitationLoss()], ids=repr)
def test_half_precision_boxes_are_computed_in_float32(module):
    generator = torch.Generator().manual_seed(0)
    student, teacher, target = torch.randn(3, 64, 4, generator=generator).bfloat16()
    expected = module(student.double(), teacher.double(), target.double(), num_sampled=512)
    student.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = module(student, teacher.float(), target, num_sampled=512)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    assert student.grad.isfinite().all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'student, teacher and target must have one shape, got \(4, 4\), \(3, 4\)'):
        bounded_regression(STUDENT, TEACHER[:3], TARGET)
    with pytest.raises(ValueError, match=r'student and teacher must have one shape, got \(4, 4\), \(3, 4\)'):
        box_imitation(STUDENT, TEACHER[:3])
    for margin in (-1, float('nan')):
        with pytest.raises(ValueError, match='margin must be (at least 0|finite)'):
            bounded_regression(STUDENT, TEACHER, TARGET, margin=margin)
        with pytest.raises(ValueError, match='margin must be (at least 0|finite)'):
            BoundedRegressionLoss(margin=margin)
    for wrong in (
        lambda: bounded_regression(STUDENT, TEACHER, TARGET, norm='smooth'),
        lambda: box_imitation(STUDENT, TEACHER, norm='smooth'),
        lambda: BoundedRegressionLoss(norm='smooth'),
        lambda: BoxImitationLoss(norm='smooth'),
    ):
        with pytest.raises(ValueError, match="norm must be one of 'l2', 'l1', got 'smooth'"):
            wrong()

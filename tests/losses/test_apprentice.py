"""Soft targets of Apprentice and of quantized distillation: the reference's numbers, their gradients, sigmoid classes."""

import pytest
import torch
from torch.nn import functional as F

from kddense.losses import ApprenticeLoss, QuantizedDistillationLoss, soft_cross_entropy, soft_target_divergence

TEACHER, STUDENT, LABEL = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_three_terms_have_the_values_of_the_reference():
    terms = (F.cross_entropy(TEACHER, LABEL), F.cross_entropy(STUDENT, LABEL), ApprenticeLoss()(STUDENT, TEACHER))
    for term, expected in zip(terms, (0.239545, 0.551445, 0.764459), strict=True):
        assert term.item() == pytest.approx(expected, abs=1e-6)
    assert (terms[0] + 0.5 * terms[1] + 0.5 * terms[2]).item() == pytest.approx(0.897496, abs=1e-6)


@pytest.mark.parametrize('shape', [(7, 5), (2, 5, 3, 4)], ids=['rows', 'maps'])
def test_it_is_that_of_plain_loops_and_differs_from_the_divergence_by_a_constant(shape):
    student, teacher = normal(*shape).requires_grad_(), normal(*shape, seed=1)
    loss = soft_cross_entropy(student, teacher)
    rows, targets = (one.movedim(1, -1).reshape(-1, 5) for one in (student, teacher))
    expected = 0.0
    for row, target in zip(rows, targets, strict=True):
        expected += -sum(p * torch.log(q) for p, q in zip(target.softmax(0), row.softmax(0), strict=True)) / len(rows)
    torch.testing.assert_close(loss, expected)
    (own,) = torch.autograd.grad(loss, student)
    (other,) = torch.autograd.grad(soft_target_divergence(student, teacher), student)
    torch.testing.assert_close(own, other)
    assert torch.autograd.gradcheck(lambda one: soft_cross_entropy(one, teacher), student)


def test_sigmoid_classes_are_each_a_cross_entropy():
    student, teacher = normal(7, 5).requires_grad_(), normal(7, 5, seed=1)
    loss = ApprenticeLoss(classes='sigmoid')(student, teacher)
    expected = F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction='sum') / 7
    torch.testing.assert_close(loss, expected)
    assert torch.autograd.gradcheck(lambda one: soft_cross_entropy(one, teacher, 'sigmoid'), student)


def test_quantized_distillation_has_the_values_of_the_reference():
    """EX 1 of the reference: temperature 2, summed over classes and averaged."""
    teacher, student = torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    assert QuantizedDistillationLoss()(student, teacher).item() == pytest.approx(0.172481, abs=1e-6)
    assert QuantizedDistillationLoss(mode='paper')(student, teacher).item() == pytest.approx(0.517443, abs=1e-6)


def test_the_codes_mean_is_that_of_pytorchs_default():
    student, teacher = normal(7, 5).requires_grad_(), normal(7, 5, seed=1)
    log, target = F.log_softmax(student / 3, 1), F.softmax(teacher / 3, 1)
    with pytest.warns(UserWarning, match="reduction: 'mean' divides the total loss"):
        expected = 9 * F.kl_div(log, target)
    torch.testing.assert_close(QuantizedDistillationLoss(temperature=3)(student, teacher), expected)
    sigmoid = QuantizedDistillationLoss(classes='sigmoid')(student, teacher)
    halves = [one / 2 for one in (student, teacher)]
    entropy = F.binary_cross_entropy_with_logits(halves[1], halves[1].sigmoid())
    expected = 4 * (F.binary_cross_entropy_with_logits(halves[0], halves[1].sigmoid()) - entropy)
    torch.testing.assert_close(sigmoid, expected)
    assert torch.autograd.gradcheck(lambda one: QuantizedDistillationLoss()(one, teacher), student)


@pytest.mark.parametrize(
    'build, message',
    [
        (lambda: ApprenticeLoss('tanh'), "classes must be one of 'softmax', 'sigmoid', got 'tanh'"),
        (lambda: QuantizedDistillationLoss(0), 'temperature must be above 0, got 0'),
        (lambda: QuantizedDistillationLoss(mode='text'), "mode must be one of 'code', 'paper', got 'text'"),
        (lambda: soft_cross_entropy(STUDENT, TEACHER[:, :2]), 'student and teacher must have one shape'),
    ],
)
def test_bad_input_is_one_sentence(build, message):
    with pytest.raises(ValueError, match=message):
        build()

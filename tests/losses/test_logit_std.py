"""Standardised logits: the worked example, invariance, and positions whose classes are alike."""

import pytest
import torch

from kddense.losses import (
    HintonLoss,
    PixelWiseLoss,
    WeightedSoftTargetLoss,
    soft_target_divergence,
    standardize_logits,
)

from ..helpers import loss_checks as checks

TEACHER = torch.tensor([[2.0, 0, -2]], dtype=torch.float64)
STUDENT = torch.tensor([[1.0, 0, 0]], dtype=torch.float64)


def divergence(student, teacher):
    return soft_target_divergence(standardize_logits(student), standardize_logits(teacher), temperature=2.0)


def test_the_worked_example():
    expected = torch.tensor([[1.15470, -0.57735, -0.57735]], dtype=torch.float64)
    torch.testing.assert_close(standardize_logits(STUDENT), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(standardize_logits(TEACHER), torch.tensor([[1.0, 0, -1]]).double(), rtol=1e-6, atol=1e-9)
    assert divergence(STUDENT, TEACHER).item() == pytest.approx(0.0705938, rel=1e-5)


def test_scale_and_shift_drop_out_of_value_and_gradient():
    student, teacher = checks.random_tensor(4, 5).requires_grad_(), 9 * checks.random_tensor(4, 5, seed=1) + 3
    value = divergence(student, teacher)
    torch.testing.assert_close(divergence(7 * student - 2, teacher), value, rtol=1e-6, atol=0)
    value.backward()
    centred = student.detach() - student.detach().mean(dim=1, keepdim=True)
    assert (student.grad * centred).sum(dim=1).abs().max() < 1e-7
    assert student.grad.sum(dim=1).abs().max() < 1e-12


def test_agrees_with_torch_on_maps():
    pixels = checks.random_tensor(2, 6, 3, 4)
    expected = (pixels - pixels.mean(1, keepdim=True)) / (1e-7 + pixels.std(1, keepdim=True))
    torch.testing.assert_close(standardize_logits(pixels), expected)
    torch.testing.assert_close(standardize_logits(pixels.movedim(1, -1), dim=-1), expected.movedim(1, -1))


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(3, 4), checks.random_tensor(3, 4, seed=1)
    checks.assert_exact_gradient(divergence, student, teacher)
    checks.assert_float32_inside(divergence, student, teacher)


@pytest.mark.parametrize('shape', [(3, 5), (3, 1), (0, 5)])
def test_classes_that_are_alike_are_safe(shape):
    logits = torch.full(shape, 2.0, requires_grad=True)
    standardized = standardize_logits(logits)
    standardized.square().sum().backward()
    assert not standardized.any()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    'loss',
    [
        HintonLoss(temperature=2.0, standardize=True),
        WeightedSoftTargetLoss(background_weight=1.0, temperature=2.0, standardize=True),
        PixelWiseLoss(temperature=2.0, standardize=True),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_the_option_of_losses_of_soft_targets(loss):
    """A cross-entropy has the same gradient as the divergence."""
    student, teacher = checks.random_tensor(4, 5), checks.random_tensor(4, 5, seed=1)
    gradients = []
    for value_of in (loss, divergence):
        own = student.clone().requires_grad_()
        pixels = isinstance(value_of, PixelWiseLoss)
        value_of(*((one[..., None, None] if pixels else one) for one in (own, teacher))).backward()
        gradients.append(own.grad)
    torch.testing.assert_close(*gradients)


def test_sigmoids_have_no_mean_over_classes():
    for make in (lambda **o: HintonLoss(mode='sigmoid', **o), lambda **o: PixelWiseLoss(classes='sigmoid', **o)):
        with pytest.raises(ValueError, match="standardize=True needs classes that exclude one another, 'softmax'"):
            make(standardize=True)

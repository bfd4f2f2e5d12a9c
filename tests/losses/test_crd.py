"""Contrast: the worked examples, the formula in plain numbers, masks, batches that are too small."""

import math

import numpy as np
import pytest
import torch

from kddense.losses import info_nce, noise_contrastive_estimation

from ..helpers import loss_checks as checks

POSITIVE, NEGATIVE = torch.tensor([0.8], dtype=torch.float64), torch.tensor([[0.1, -0.2]], dtype=torch.float64)


def test_the_worked_examples():
    value = noise_contrastive_estimation(POSITIVE, NEGATIVE, math.log(1000), 1000, 0.1)
    assert value.item() == pytest.approx(0.924445, rel=1e-5)
    student = torch.eye(3, dtype=torch.float64)[:1].expand(3, 3)
    teacher = torch.tensor([[s, math.sqrt(1 - s * s), 0] for s in (0.8, 0.1, -0.2)], dtype=torch.float64)
    first = info_nce(student, teacher, 0.1, None)
    each = torch.log_softmax(torch.tensor([8.0, 1, -2], dtype=torch.float64), 0)
    assert -each[0].item() == pytest.approx(0.000956824, rel=1e-5)
    torch.testing.assert_close(first, -each.mean())


def test_agrees_with_the_formula():
    positive, negative = torch.rand(4, dtype=torch.float64), 2 * torch.rand(4, 6, dtype=torch.float64) - 1
    mask = checks.random_tensor(4, 6) > -0.5
    mask[2] = False
    total, z, count = 0.0, 250.0, 50
    for own, others, kept in zip(positive.numpy(), negative.numpy(), mask.numpy(), strict=True):
        if not kept.any():
            continue
        share = kept.sum() / count
        e = np.exp(own / 0.3) / z
        total -= np.log(e / (e + share))
        e = np.exp(others[kept] / 0.3) / z
        total -= np.log(share / (e + share)).sum()
    value = noise_contrastive_estimation(positive, negative, math.log(z), count, 0.3, mask)
    assert value.item() == pytest.approx(total / 3)


def test_small_temperatures_do_not_overflow():
    positive = torch.tensor([-1.0]).requires_grad_()
    value = noise_contrastive_estimation(positive, torch.tensor([[1.0]]), 0.0, 10, 0.001)
    value.backward()
    assert value.item() == pytest.approx(2000, rel=1e-2)
    assert positive.grad.isfinite().all()


def test_those_of_the_same_class_are_no_negatives():
    student, teacher = checks.random_tensor(4, 3), checks.random_tensor(4, 3, seed=1)
    labels = torch.tensor([0, 1, 0, 2])
    total = 0.0
    for index in range(4):
        kept = (labels != labels[index]) | (torch.arange(4) == index)
        scores = torch.nn.functional.cosine_similarity(student[index], teacher[kept]) / 0.07
        total -= scores.log_softmax(0)[int(kept[:index].sum())]
    value = info_nce(student, teacher, excluded=labels[:, None] == labels)
    torch.testing.assert_close(value, total / 4)


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(4, 3), checks.random_tensor(4, 3, seed=1)
    assert torch.autograd.gradcheck(
        lambda s, t: info_nce(s, t, 0.5), (student.requires_grad_(), teacher.requires_grad_())
    )
    student, teacher = student.detach(), teacher.detach()
    checks.assert_float32_inside(info_nce, student, teacher, rtol=1e-2)
    negative = checks.random_tensor(3, 4).requires_grad_()
    positive = checks.random_tensor(3, seed=1).requires_grad_()
    estimate = lambda p, n: noise_contrastive_estimation(p, n, 3.0, 20, 0.5)  # noqa: E731
    assert torch.autograd.gradcheck(estimate, (positive, negative))
    half = estimate(positive.detach().bfloat16(), negative.detach().bfloat16())
    assert half.dtype == torch.float32


def test_nothing_to_tell_apart_is_a_zero():
    one = torch.ones(1, 3)
    for rows in (one, one[:0]):
        checks.assert_zero_that_backpropagates(info_nce, rows, rows)
    estimate = lambda p, n: noise_contrastive_estimation(p, n, 0.0, 5)  # noqa: E731
    for count in (0, 2):
        checks.assert_zero_that_backpropagates(estimate, torch.ones(count), torch.ones(count, 0))


def test_bad_input_is_named():
    with pytest.raises(
        ValueError, match=r'positive must have shape \(N,\) and negative \(N, K\), got \(1,\) and \(2,\)'
    ):
        noise_contrastive_estimation(POSITIVE, NEGATIVE[0], 0.0, 10)
    with pytest.raises(ValueError, match='total must be above 0, got 0'):
        noise_contrastive_estimation(POSITIVE, NEGATIVE, 0.0, 0)
    with pytest.raises(ValueError, match=r'rows of shape \(N, C\)'):
        info_nce(torch.ones(3), torch.ones(3))

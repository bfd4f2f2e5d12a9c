"""Relations across images: the worked example, a loop as reference, memories, batches that are too small."""

import numpy as np
import pytest
import torch

from kddense.losses import CrossImageLoss, cross_image_divergence, memory_divergence

from ..helpers import loss_checks as checks

# Rows are channels, as in the worked example.
STUDENT = torch.tensor([[[1.0, 0], [0, 1]], [[1, 1], [0, 1]]], dtype=torch.float64)[..., None]
TEACHER = torch.tensor([[[1.0, 0], [0, 1]], [[1, 0], [1, 1]]], dtype=torch.float64)[..., None]


def divergence(own, other, temperature):
    p, q = (np.exp(side / temperature) for side in (other, own))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    return (p * np.log(p / q)).sum(1).mean()


def units(maps):
    rows = maps.flatten(2).transpose(1, 2).numpy()
    return rows / np.linalg.norm(rows, axis=2, keepdims=True)


def reference(student, teacher, temperature):
    ours, theirs = units(student), units(teacher)
    pairs = [(i, j) for i in range(len(ours)) for j in range(len(ours))]
    return np.mean([divergence(ours[i] @ ours[j].T, theirs[i] @ theirs[j].T, temperature) for i, j in pairs])


def test_the_worked_example():
    assert cross_image_divergence(STUDENT, TEACHER).item() == pytest.approx(0.650776, rel=1e-5)
    assert CrossImageLoss()(STUDENT, TEACHER).item() == pytest.approx(0.650776, rel=1e-5)


@pytest.mark.parametrize('temperature', [0.1, 1.0])
def test_agrees_with_a_loop(temperature):
    student, teacher = checks.random_tensor(3, 4, 2, 3), checks.random_tensor(3, 5, 2, 3, seed=1)
    value = cross_image_divergence(student, teacher, temperature)
    assert value.item() == pytest.approx(reference(student, teacher, temperature))


def test_memory_agrees_with_a_loop():
    student, teacher, remembered = (
        checks.random_tensor(*shape, seed=i) for i, shape in enumerate([(5, 3), (5, 3), (7, 3)])
    )
    ours, theirs, vectors = (units(side.T[None, :, :, None])[0] for side in (student, teacher, remembered))
    value = memory_divergence(student, teacher, remembered, 0.2)
    assert value.item() == pytest.approx(divergence(ours @ vectors.T, theirs @ vectors.T, 0.2))


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(2, 3, 2, 2), checks.random_tensor(2, 4, 2, 2, seed=1)
    checks.assert_exact_gradient(CrossImageLoss(0.5), student, teacher)
    checks.assert_float32_inside(CrossImageLoss(), student, teacher, rtol=1e-2)
    rows, others = checks.random_tensor(5, 3), checks.random_tensor(5, 3, seed=1)
    remembered = checks.random_tensor(6, 3, seed=2)
    checks.assert_exact_gradient(lambda s, t: memory_divergence(s, t, remembered, 0.5), rows, others)
    half = remembered.bfloat16()
    checks.assert_float32_inside(lambda s, t: memory_divergence(s, t, half), rows, others, rtol=1e-2)


def test_features_without_a_direction_are_safe():
    student = STUDENT.clone()
    student[0, :, 0] = 0
    student.requires_grad_()
    value = cross_image_divergence(student, TEACHER)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    assert not student.grad[0, :, 0].any()


def test_nothing_to_compare_is_a_zero():
    nothing = torch.zeros(0, 3, 2, 2)
    checks.assert_zero_that_backpropagates(CrossImageLoss(), nothing, nothing)
    checks.assert_zero_that_backpropagates(CrossImageLoss(), torch.ones(1, 3, 1, 1), torch.ones(1, 2, 1, 1))
    rows = torch.ones(4, 3)
    checks.assert_zero_that_backpropagates(lambda s, t: memory_divergence(s, t, rows[:0]), rows, 2 * rows)
    checks.assert_zero_that_backpropagates(lambda s, t: memory_divergence(s, t, rows), rows[:0], rows[:0])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'of one size, got \(2, 2, 2, 1\), \(2, 2, 1, 1\)'):
        cross_image_divergence(STUDENT, TEACHER[:, :, :1])
    with pytest.raises(ValueError, match='temperature must be above 0, got 0'):
        CrossImageLoss(0)
    with pytest.raises(ValueError, match=r'rows of as many channels, got \(2, 3\), \(2, 3\), \(4, 2\)'):
        memory_divergence(torch.ones(2, 3), torch.ones(2, 3), torch.ones(4, 2))

"""Relations of class probabilities: the worked example, numpy as reference, constant samples and classes, small batches."""

import numpy as np
import pytest
import torch

from kddense.losses import DISTLoss, relation_distance

from ..helpers import loss_checks as checks

TEACHER = torch.tensor([[2.0, 0, 0], [0, 2, 0]], dtype=torch.float64)
STUDENT = torch.tensor([[1.0, 0, 0], [0, 1, 1]], dtype=torch.float64)


@pytest.mark.parametrize('inter, intra, value', [(1, 0, 0.25), (0, 1, 1 / 3), (2, 3, 1.5)])
def test_the_worked_example(inter, intra, value):
    assert relation_distance(STUDENT, TEACHER, inter, intra).item() == pytest.approx(value, rel=1e-6)
    assert DISTLoss(inter, intra)(STUDENT, TEACHER).item() == pytest.approx(value, rel=1e-6)


def reference(student, teacher, temperature=1.0, classes='softmax'):
    def probabilities(logits):
        if classes == 'sigmoid':
            return 1 / (1 + np.exp(-logits / temperature))
        return np.exp(logits / temperature) / np.exp(logits / temperature).sum(1, keepdims=True)

    ours, theirs = (probabilities(side.numpy()) for side in (student, teacher))
    rows = np.mean([1 - np.corrcoef(p, q)[0, 1] for p, q in zip(ours, theirs, strict=True)])
    columns = np.mean([1 - np.corrcoef(p, q)[0, 1] for p, q in zip(ours.T, theirs.T, strict=True)])
    return temperature**2 * (rows + columns)


@pytest.mark.parametrize('temperature', [1.0, 4.0])
@pytest.mark.parametrize('classes', ['softmax', 'sigmoid'])
def test_agrees_with_numpy(temperature, classes):
    student, teacher = checks.random_tensor(7, 4), checks.random_tensor(7, 4, seed=1)
    value = relation_distance(student, teacher, temperature=temperature, classes=classes)
    np.testing.assert_allclose(value, reference(student, teacher, temperature, classes), rtol=1e-9)


def test_pixels_are_rows():
    student, teacher = checks.random_tensor(2, 4, 3, 5), checks.random_tensor(2, 4, 3, 5, seed=1)
    mask = checks.random_tensor(2, 3, 5, seed=2) > 0
    rows = [side.permute(0, 2, 3, 1).reshape(-1, 4) for side in (student, teacher)]
    torch.testing.assert_close(relation_distance(student, teacher), relation_distance(*rows))
    kept = relation_distance(*(side[mask.flatten()] for side in rows))
    torch.testing.assert_close(relation_distance(student, teacher, mask=mask), kept)


@pytest.mark.parametrize('classes', ['softmax', 'sigmoid'])
def test_gradient_and_precision(classes):
    student, teacher = checks.random_tensor(5, 3), checks.random_tensor(5, 3, seed=1)
    loss = DISTLoss(temperature=2.0, classes=classes)
    checks.assert_exact_gradient(loss, student, teacher)
    checks.assert_float32_inside(loss, student, teacher)


def test_what_is_constant_counts_one_and_has_a_finite_gradient():
    """A class that no sample shows, and a sample that shows none, of either side, at any value."""
    student = torch.zeros(64, 3).requires_grad_()
    teacher = checks.random_tensor(64, 3, dtype=torch.float32)
    value = relation_distance(student, teacher)
    value.backward()
    assert value.item() == pytest.approx(2)
    assert not student.grad.any()
    absent = teacher.clone()
    absent[:, 0] = -200
    assert relation_distance(teacher.clone().requires_grad_(), absent, inter=0).isfinite()
    turned = absent.clone().requires_grad_()
    relation_distance(turned, teacher).backward()
    assert turned.grad.isfinite().all()


def test_batches_that_are_too_small():
    one = checks.random_tensor(1, 3)
    other = checks.random_tensor(1, 3, seed=1)
    expected = relation_distance(one, other, intra=0)
    assert expected > 0
    torch.testing.assert_close(relation_distance(one, other), expected)
    assert relation_distance(one.T, other.T, classes='sigmoid').item() == pytest.approx(
        relation_distance(one.T, other.T, inter=0, classes='sigmoid').item()
    )
    checks.assert_zero_that_backpropagates(DISTLoss(), torch.zeros(0, 3), torch.zeros(0, 3))
    maps = torch.ones(1, 3, 2, 2)
    nowhere = torch.zeros(1, 2, 2, dtype=torch.bool)
    checks.assert_zero_that_backpropagates(lambda s, t: relation_distance(s, t, mask=nowhere), maps, maps)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'rows \(M, C\) or maps \(N, C, H, W\), got \(3,\)'):
        relation_distance(STUDENT[0], TEACHER[0])
    with pytest.raises(ValueError, match=r'shape of the positions, \(2,\), got \(3,\)'):
        relation_distance(STUDENT, TEACHER, mask=torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match='inter must be at least 0, got -1'):
        DISTLoss(inter=-1)
    with pytest.raises(ValueError, match='temperature must be above 0, got 0'):
        DISTLoss(temperature=0)
    with pytest.raises(ValueError, match="classes must be one of 'softmax', 'sigmoid', got 'both'"):
        relation_distance(STUDENT, TEACHER, classes='both')

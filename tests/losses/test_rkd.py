"""Relations: the worked example, loops as reference, samples that coincide, batches that are too small."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kddense.losses import RKDLoss, angle_relation, distance_relation

from ..helpers import loss_checks as checks

TEACHER = torch.tensor([[0.0, 0], [3, 4], [0, 4]], dtype=torch.float64)
STUDENT = torch.tensor([[0.0], [1], [3]], dtype=torch.float64)


def test_the_worked_example():
    assert distance_relation(STUDENT, TEACHER).item() == pytest.approx(0.0972222, rel=1e-5)
    assert angle_relation(STUDENT, TEACHER).item() == pytest.approx(0.12, rel=1e-9)
    assert RKDLoss(distance=2.0, angle=3.0)(STUDENT, TEACHER).item() == pytest.approx(2 * 0.0972222 + 0.36, rel=1e-5)
    assert RKDLoss(angle=0)(STUDENT, TEACHER).item() == pytest.approx(25 * 0.0972222, rel=1e-5)


def huber(own, other):
    return float(F.smooth_l1_loss(torch.from_numpy(own), torch.from_numpy(other)))


def test_agrees_with_loops():
    student, teacher = checks.random_tensor(6, 3), 5 * checks.random_tensor(6, 4, seed=1)

    def distances(rows):
        found = np.array([[np.linalg.norm(x - y) for y in rows.numpy()] for x in rows.numpy()])
        return found / found[found > 0].mean()

    def angles(rows):
        rows, found = rows.numpy(), np.zeros((6, 6, 6))
        for i, j, k in np.ndindex(6, 6, 6):
            left, right = rows[j] - rows[i], rows[k] - rows[i]
            lengths = np.linalg.norm(left) * np.linalg.norm(right)
            found[i, j, k] = left @ right / lengths if lengths else 0
        return found

    assert distance_relation(student, teacher).item() == pytest.approx(huber(distances(student), distances(teacher)))
    assert angle_relation(student, teacher).item() == pytest.approx(huber(angles(student), angles(teacher)))


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(4, 3), checks.random_tensor(4, 2, seed=1)
    checks.assert_exact_gradient(RKDLoss(), student, teacher)
    checks.assert_float32_inside(RKDLoss(), student, teacher)


def test_scale_shift_and_rotation_do_not_matter():
    rotation = torch.linalg.qr(checks.random_tensor(3, 3, seed=2)).Q
    teacher = checks.random_tensor(5, 3)
    assert RKDLoss()(4 * teacher @ rotation + 1, teacher).item() == pytest.approx(0, abs=1e-12)


def test_samples_that_coincide_are_safe():
    student = torch.tensor([[1.0, 2], [1, 2], [0, 1], [4, 4]], requires_grad=True)
    value = RKDLoss()(student, torch.tensor([[1.0], [2], [2], [0]]))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    same = torch.ones(4, 2, requires_grad=True)
    RKDLoss()(same, TEACHER[[0, 1, 2, 2]].float()).backward()
    assert not same.grad.any()


@pytest.mark.parametrize('count', [0, 1])
def test_too_few_samples_have_no_relation(count):
    checks.assert_zero_that_backpropagates(RKDLoss(), torch.ones(count, 3), torch.ones(count, 2))


def test_two_samples_have_one_distance_and_no_angle():
    student, teacher = checks.random_tensor(2, 3).requires_grad_(), checks.random_tensor(2, 3, seed=1)
    RKDLoss()(student, teacher).backward()
    assert student.grad.abs().max() < 1e-12


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'embeddings \(N, C\) of as many samples, got \(3, 1\), \(2, 2\)'):
        RKDLoss()(STUDENT, TEACHER[:2])
    with pytest.raises(ValueError, match='distance must be at least 0'):
        RKDLoss(distance=-1)
    with pytest.raises(ValueError, match='must not both be 0'):
        RKDLoss(distance=0, angle=0)

"""Intra-class variation: the worked example, a loop as reference, places without a class, features without a direction."""

import numpy as np
import pytest
import torch

from kddense.losses import IFVDLoss, intra_class_similarity, intra_class_variation

from ..helpers import loss_checks as checks

FEATURES = torch.tensor([[[[1.0, 1], [0, 1]], [[0, 1], [2, 1]]]], dtype=torch.float64)
LABELS = torch.tensor([[[0, 0], [1, 1]]])


def test_the_worked_example():
    similarity = intra_class_similarity(FEATURES, LABELS)
    np.testing.assert_allclose(similarity.flatten(), [0.894427, 0.948683, 0.948683, 0.894427], rtol=1e-5)


def test_agrees_with_a_loop():
    student, teacher = checks.random_tensor(2, 3, 4, 5), checks.random_tensor(2, 6, 4, 5, seed=1)
    labels = torch.arange(40).view(2, 4, 5) % 4 - 1
    total = 0.0
    for image, row, column in np.ndindex(2, 4, 5):
        if labels[image, row, column] < 0:
            continue
        cosines = []
        for side in (student.numpy(), teacher.numpy()):
            centre = side[image][:, (labels[image] == labels[image, row, column]).numpy()].mean(1)
            own = side[image, :, row, column]
            cosines.append(own @ centre / np.linalg.norm(own) / np.linalg.norm(centre))
        total += (cosines[0] - cosines[1]) ** 2
    assert intra_class_variation(student, teacher, labels).item() == pytest.approx(total / 40)


def test_scale_and_rotation_do_not_matter():
    rotation = torch.linalg.qr(checks.random_tensor(2, 2)).Q
    turned = 5 * torch.einsum('dc,nchw->ndhw', rotation, FEATURES)
    assert intra_class_variation(turned, FEATURES, LABELS).item() == pytest.approx(0, abs=1e-12)


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(2, 3, 2, 3), checks.random_tensor(2, 4, 2, 3, seed=1)
    labels = torch.tensor([[[0, 0, 2], [-1, 0, 2]], [[1, 1, 1], [-1, -1, 0]]])
    checks.assert_exact_gradient(lambda s, t: IFVDLoss()(s, t, labels), student, teacher)
    checks.assert_float32_inside(lambda s, t: IFVDLoss()(s, t, labels), student, teacher)


def test_nothing_to_compare_is_a_zero():
    maps, other = torch.ones(1, 3, 2, 2), checks.random_tensor(1, 3, 2, 2, dtype=torch.float32)
    nowhere, alone = torch.full((1, 2, 2), -1), torch.arange(4).view(1, 2, 2)
    for labels in (nowhere, alone):
        value = intra_class_variation(maps.clone().requires_grad_(), other, labels)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-12)
    nothing = torch.zeros(0, 3, 2, 2)
    checks.assert_zero_that_backpropagates(lambda s, t: IFVDLoss()(s, t, nowhere[:0]), nothing, nothing)


def test_features_of_zero_have_no_direction_and_no_gradient():
    student = FEATURES.float().clone()
    student[..., 0, 0] = 0
    student.requires_grad_()
    intra_class_variation(student, FEATURES.float(), LABELS).backward()
    assert student.grad.isfinite().all()
    dead = torch.zeros_like(student).requires_grad_()
    intra_class_variation(dead, FEATURES.float(), LABELS).backward()
    assert not dead.grad.any()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'labels must be integers of shape \(1, 2, 2\), got torch.int64 \(2, 2\)'):
        intra_class_variation(FEATURES, FEATURES, LABELS[0])
    with pytest.raises(ValueError, match=r'maps of shape \(N, C, H, W\), got \(2, 2, 2\)'):
        intra_class_variation(FEATURES[0], FEATURES[0], LABELS[0])
    with pytest.raises(ValueError, match=r'labels must be integers of shape \(1, 1, 2\)'):
        intra_class_variation(FEATURES, FEATURES[:, :, :1], LABELS)

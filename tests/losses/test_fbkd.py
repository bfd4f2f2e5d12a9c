"""Attention and distances: numbers by hand, numpy as reference, a gradient where both agree."""

import numpy as np
import pytest
import torch

from kddense.losses import root_distance, spatial_attention

from ..helpers import loss_checks as checks


def test_attention_agrees_with_numpy():
    maps = checks.random_tensor(2, 3, 4, 5)
    strength = np.exp(np.abs(maps.numpy()).mean(1) / 0.5)
    expected = 20 * strength / strength.sum((1, 2), keepdims=True)
    np.testing.assert_allclose(spatial_attention(maps)[:, 0], expected)
    np.testing.assert_allclose(spatial_attention(maps, 1e9), np.ones((2, 1, 4, 5)), rtol=1e-6)


def test_distance_agrees_with_numpy():
    student, teacher = checks.random_tensor(2, 3, 4, 5), checks.random_tensor(2, 3, 4, 5, seed=1)
    mask = spatial_attention(teacher)
    expected = np.sqrt((mask.numpy() * (student - teacher).numpy() ** 2).sum())
    assert root_distance(student, teacher, mask).item() == pytest.approx(expected)
    assert root_distance(student, teacher).item() == pytest.approx(np.linalg.norm((student - teacher).numpy()))


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(2, 3, 2, 2), checks.random_tensor(2, 3, 2, 2, seed=1)
    mask = spatial_attention(teacher)
    both = (student.clone().requires_grad_(), teacher.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda s, t: root_distance(s, t, mask), both)
    assert torch.autograd.gradcheck(spatial_attention, both[0])
    checks.assert_float32_inside(lambda s, t: root_distance(s, t, mask), student, teacher)
    assert spatial_attention(student.bfloat16()).dtype == torch.float32


def test_where_both_agree_the_gradient_is_zero():
    same = torch.ones(1, 2, 2, 2)
    checks.assert_zero_that_backpropagates(root_distance, same, same)
    checks.assert_zero_that_backpropagates(lambda s, t: root_distance(s, t, torch.zeros(1, 1, 2, 2)), same, 2 * same)
    checks.assert_zero_that_backpropagates(root_distance, same[:0], same[:0])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match='must have one shape'):
        root_distance(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match=r'maps of shape \(N, C, H, W\), got \(2,\)'):
        spatial_attention(torch.ones(2))
    with pytest.raises(ValueError, match='temperature must be above 0, got 0'):
        spatial_attention(torch.ones(1, 1, 2, 2), 0)

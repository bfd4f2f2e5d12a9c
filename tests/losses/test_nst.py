"""Neuron selectivity: the worked example, the plain sum over pairs of positions as reference, and its memory."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from kddense.losses import NSTLoss, neuron_selectivity_distance

from ..helpers import loss_checks as checks

TEACHER = torch.tensor([[[[1.0, 0], [0, 1]], [[1, 1], [0, 0]]]], dtype=torch.float64)
STUDENT = torch.ones(1, 1, 2, 2, dtype=torch.float64)


@pytest.mark.parametrize('kernel, value', [('polynomial', 0.625), ('linear', 0.335786), ('gaussian', 0.499888)])
def test_the_worked_example(kernel, value):
    assert neuron_selectivity_distance(STUDENT, TEACHER, kernel).item() == pytest.approx(value, rel=1e-5)


def by_loops(student, teacher, kernel):
    total = 0.0
    for own, other in zip(student.flatten(2).numpy(), teacher.flatten(2).numpy(), strict=True):
        own, other = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (own, other))

        def mean(left, right, own=own, other=other):
            spread = np.mean([((s - t) ** 2).sum() for s in own for t in other])
            values = dict(
                linear=lambda x, y: x @ y,
                polynomial=lambda x, y: (x @ y + 0.5) ** 3,
                gaussian=lambda x, y: np.exp(-((x - y) ** 2).sum() / (2 * spread)),
            )
            return np.mean([values[kernel](x, y) for x in left for y in right])

        total += mean(other, other) + mean(own, own) - 2 * mean(own, other)
    return total / len(student)


@pytest.mark.parametrize('kernel', ['linear', 'polynomial', 'gaussian'])
def test_agrees_with_loops(kernel):
    student, teacher = checks.random_tensor(1, 4, 3, 2), checks.random_tensor(1, 5, 3, 2, seed=1)
    got = neuron_selectivity_distance(student, teacher, kernel, degree=3, offset=0.5)
    np.testing.assert_allclose(got, by_loops(student, teacher, kernel), rtol=1e-9)


def test_the_polynomial_is_the_distance_of_the_gram_matrices_of_positions():
    student, teacher = checks.random_tensor(2, 4, 3, 2), checks.random_tensor(2, 5, 3, 2, seed=1)
    own, other = (one.flatten(2) / one.flatten(2).norm(dim=2, keepdim=True) for one in (student, teacher))
    grams = [one.transpose(1, 2) @ one / one.shape[1] for one in (own, other)]
    expected = (grams[0] - grams[1]).square().sum(dim=(1, 2)).mean()
    torch.testing.assert_close(neuron_selectivity_distance(student, teacher), expected)


@pytest.mark.parametrize('kernel', ['linear', 'polynomial', 'gaussian'])
def test_gradient_and_precision(kernel):
    student, teacher = checks.random_tensor(2, 3, 2, 3), checks.random_tensor(2, 2, 2, 3, seed=1)
    checks.assert_exact_gradient(NSTLoss(kernel, variance=0.7), student, teacher)
    checks.assert_float32_inside(NSTLoss(kernel), student, teacher)


@pytest.mark.parametrize('kernel', ['linear', 'polynomial', 'gaussian'])
def test_order_and_scale_of_channels_do_not_matter(kernel):
    teacher = checks.random_tensor(2, 4, 3, 3).abs()
    scale = torch.tensor([1.0, 3.0, 0.1, 7.0], dtype=torch.float64).view(1, 4, 1, 1)
    value = neuron_selectivity_distance(scale * teacher[:, [2, 0, 3, 1]], teacher, kernel)
    assert value.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize('kernel', ['linear', 'polynomial', 'gaussian'])
def test_dead_channels_are_safe(kernel):
    student = checks.random_tensor(2, 3, 2, 2)
    student[:, 0] = 0
    student.requires_grad_()
    value = neuron_selectivity_distance(student, torch.zeros(2, 2, 2, 2), kernel)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    assert not student.grad[:, 0].any()
    assert neuron_selectivity_distance(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), kernel).item() == 0


class Sizes(TorchDispatchMode):
    """Notes the bytes of every tensor that is made, views of others left out."""

    def __init__(self):
        super().__init__()
        self.made = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for one in tree_flatten(result)[0]:
            if isinstance(one, torch.Tensor):
                self.made[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
        return result


def test_the_polynomial_builds_nothing_larger_than_its_maps():
    """The matrix of all pairs of 64 x 64 positions would take 64 MB."""
    student, teacher = (checks.random_tensor(1, 256, 64, 64, seed=seed, dtype=torch.float32) for seed in (0, 1))
    student.requires_grad_()
    with Sizes() as sizes:
        neuron_selectivity_distance(student, teacher).backward()
    assert max(sizes.made.values()) == 4 * 256 * 64 * 64


def test_nothing_of_nothing_is_a_zero():
    for shape in ((0, 3, 4, 4), (2, 3, 0, 4)):
        checks.assert_zero_that_backpropagates(neuron_selectivity_distance, torch.ones(shape), torch.ones(shape))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'as many images and positions, got \(1, 1, 2, 2\), \(1, 2, 2, 1\)'):
        neuron_selectivity_distance(STUDENT, TEACHER[..., :1])
    for options, message in (
        (dict(kernel='cosine'), "kernel must be one of 'linear', 'polynomial', 'gaussian'"),
        (dict(degree=1.5), 'degree must be a whole number, got 1.5'),
        (dict(offset=-1), 'offset must be at least 0'),
        (dict(variance=0), 'variance must be above 0'),
    ):
        with pytest.raises(ValueError, match=message):
            NSTLoss(**options)

"""Attention transfer: the worked example, both published forms, gradients, and maps that are 0."""

import numpy as np
import pytest
import torch

from kddense.losses import ATLoss, attention_distance, attention_map, gradient_distance

from ..helpers import loss_checks as checks

TEACHER = torch.tensor([[[[1.0, 0], [2, 1]], [[1, 2], [0, 1]]]], dtype=torch.float64)
STUDENT = torch.tensor([[[[1.0, 1], [1, 1]], [[0, 1], [1, 0]], [[1, 0], [0, 1]]]], dtype=torch.float64)


@pytest.mark.parametrize(
    'reduce, mode, value',
    [('sum', 'paper', 0.320364), ('sum', 'code', 0.0256584), ('max', 'paper', 0.533867), ('max', 'code', 0.0712535)],
)
def test_the_worked_example(reduce, mode, value):
    assert attention_distance(STUDENT, TEACHER, reduce=reduce, mode=mode).item() == pytest.approx(value, rel=1e-5)


def test_the_maps_of_the_worked_example():
    expected = torch.tensor([[0.316228, 0.632456, 0.632456, 0.316228]], dtype=torch.float64)
    torch.testing.assert_close(attention_map(TEACHER), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize('reduce', ['sum', 'max'])
@pytest.mark.parametrize('power', [1, 2, 3.5])
def test_agrees_with_numpy(reduce, power):
    student, teacher = checks.random_tensor(3, 4, 5, 6), checks.random_tensor(3, 7, 5, 6, seed=1)

    def attention(maps):
        energy = np.abs(maps.numpy()) ** power
        energy = (energy.sum(1) if reduce == 'sum' else energy.max(1)).reshape(3, -1)
        return energy / np.linalg.norm(energy, axis=1, keepdims=True)

    difference = attention(student) - attention(teacher)
    code = attention_distance(student, teacher, reduce, power)
    paper = attention_distance(student, teacher, reduce, power, mode='paper')
    np.testing.assert_allclose(code, (difference**2).mean(), rtol=1e-9)
    np.testing.assert_allclose(paper, np.linalg.norm(difference, axis=1).mean(), rtol=1e-9)


@pytest.mark.parametrize('options', [dict(), dict(mode='paper'), dict(reduce='max', power=3.0)])
def test_gradient_and_precision(options):
    loss = ATLoss(**options)
    student, teacher = checks.random_tensor(2, 3, 2, 3), checks.random_tensor(2, 2, 2, 3, seed=1)
    checks.assert_exact_gradient(loss, student, teacher)
    checks.assert_float32_inside(loss, student, teacher)


def test_scale_does_not_matter():
    torch.testing.assert_close(attention_distance(7 * STUDENT, 0.1 * TEACHER), attention_distance(STUDENT, TEACHER))
    assert attention_distance(3 * TEACHER, TEACHER, mode='paper').item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize('mode', ['code', 'paper'])
def test_maps_that_are_0_are_safe(mode):
    student = torch.zeros(1, 3, 2, 2, requires_grad=True)
    value = attention_distance(student, TEACHER.float(), mode=mode)
    value.backward()
    assert value.item() == pytest.approx(0.25 if mode == 'code' else 1)
    assert not student.grad.any()
    assert attention_distance(STUDENT, torch.zeros(1, 1, 2, 2)).isfinite()
    twin = TEACHER.clone().requires_grad_()
    attention_distance(twin, TEACHER, mode=mode).backward()
    assert twin.grad.isfinite().all()


def test_no_image_and_no_position_are_zeros():
    for shape in ((0, 3, 4, 4), (2, 3, 0, 4)):
        checks.assert_zero_that_backpropagates(attention_distance, torch.ones(shape), torch.ones(shape))
    assert attention_distance(torch.full((1, 2, 1, 1), 3.0), torch.full((1, 4, 1, 1), 0.1)).item() == 0


def test_gradients_of_two_linear_models():
    """½(w·x - y)² at x = (0.5, -1), y = 1 has the gradient (w·x - y)·w."""
    x = torch.tensor([[0.5, -1.0]], dtype=torch.float64, requires_grad=True)
    weights = [torch.tensor(w, dtype=torch.float64, requires_grad=True) for w in ([1.0, 1.0], [1.0, -1.0])]
    ours, theirs = (torch.autograd.grad(0.5 * ((x @ w - 1) ** 2).sum(), x, create_graph=True)[0] for w in weights)
    value = gradient_distance(ours, theirs)
    assert value.item() == pytest.approx(5**0.5)
    value.backward()
    assert weights[0].grad.any()
    assert weights[1].grad is None
    checks.assert_zero_that_backpropagates(gradient_distance, torch.ones(0, 3), torch.ones(0, 3))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'as many images and positions, got \(1, 3, 2, 2\), \(1, 2, 2, 1\)'):
        attention_distance(STUDENT, TEACHER[..., :1])
    with pytest.raises(ValueError, match=r'maps of shape \(N, C, H, W\), got \(3, 2, 2\)'):
        attention_map(STUDENT[0])
    with pytest.raises(ValueError, match=r'one shape, got \(1, 2\), \(1, 3\)'):
        gradient_distance(torch.ones(1, 2), torch.ones(1, 3))
    for options, message in (
        (dict(reduce='mean'), "reduce must be one of 'sum', 'max'"),
        (dict(power=0.5), 'power must be at least 1, got 0.5'),
        (dict(mode='norm'), "mode must be one of 'code', 'paper'"),
    ):
        with pytest.raises(ValueError, match=message):
            ATLoss(**options)

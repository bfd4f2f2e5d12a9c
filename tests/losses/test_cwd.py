"""Channel-wise distillation: worked numbers, a loop, float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kddense.losses import CWDLoss, channel_wise_divergence

TEACHER = torch.tensor([[[[2.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]]])
STUDENT = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]]])


@pytest.mark.parametrize(('temperature', 'value'), [(1.0, 0.172604), (4.0, 0.180083)])
def test_the_worked_example(temperature, value):
    assert channel_wise_divergence(STUDENT.double(), TEACHER, temperature).item() == pytest.approx(value, abs=1e-6)


def test_it_agrees_with_a_loop():
    student, teacher = (torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    total = 0.0
    for own, other in zip(student.double().flatten(0, 1).numpy(), teacher.double().flatten(0, 1).numpy(), strict=True):
        p, q = (np.exp(side / 2) / np.exp(side / 2).sum() for side in (other, own))
        total += float((p * np.log(p / q)).sum())

    assert channel_wise_divergence(student, teacher, 2.0).item() == pytest.approx(4 * total / 6, rel=1e-5)


def test_its_gradient():
    student, teacher = (value.double() for value in (STUDENT, TEACHER))

    assert torch.autograd.gradcheck(lambda maps: channel_wise_divergence(maps, teacher), student.requires_grad_())


def test_it_does_not_underflow_on_large_maps():
    """Probabilities of far positions are 0 in float32; their logarithms are not."""
    student = torch.zeros(1, 1, 128, 256).requires_grad_()
    teacher = torch.zeros(1, 1, 128, 256)
    teacher[..., 0, 0] = 1000

    value = channel_wise_divergence(student, teacher, temperature=1.0)
    value.backward()

    assert value.item() == pytest.approx(np.log(128 * 256), rel=1e-5)
    assert student.grad[..., 0, 0].item() == pytest.approx(-1, rel=1e-4)
    swapped = channel_wise_divergence(teacher, student.detach(), temperature=1.0)
    assert swapped.item() == pytest.approx(1000 * (1 - 1 / (128 * 256)) - np.log(128 * 256), rel=1e-4)


def test_memory_format_does_not_matter():
    wanted = channel_wise_divergence(STUDENT, TEACHER)

    torch.testing.assert_close(
        channel_wise_divergence(STUDENT.to(memory_format=torch.channels_last), TEACHER.transpose(2, 3).transpose(2, 3)),
        wanted,
    )


def test_half_precision_is_widened():
    value = channel_wise_divergence(STUDENT.half(), TEACHER.bfloat16(), temperature=1.0)

    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(0.172604, abs=1e-6)


def test_teacher_is_a_constant():
    teacher = TEACHER.clone().requires_grad_()

    channel_wise_divergence(STUDENT.clone().requires_grad_(), teacher).backward()

    assert teacher.grad is None


def test_bad_input():
    with pytest.raises(ValueError, match='must have one shape'):
        channel_wise_divergence(STUDENT, TEACHER[:, :1])
    with pytest.raises(ValueError, match=r'maps of shape \(N, C, H, W\)'):
        channel_wise_divergence(STUDENT[0], TEACHER[0])
    with pytest.raises(ValueError, match='temperature must be above 0'):
        CWDLoss(temperature=0)


def test_the_module_is_the_function():
    torch.testing.assert_close(CWDLoss(2.0)(STUDENT, TEACHER), channel_wise_divergence(STUDENT, TEACHER, 2.0))

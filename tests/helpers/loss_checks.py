"""What every loss must bear: an exact gradient, half precision, a constant teacher, an empty sample."""

from __future__ import annotations

import torch


def random_tensor(*shape, seed=0, dtype=torch.float64):
    """Return the same numbers for the same seed, whatever was drawn before."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def assert_exact_gradient(loss, student, teacher):
    """The gradient is that of the value, and none reaches the teacher."""
    student, teacher = student.clone().requires_grad_(), teacher.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda own: loss(own, teacher.detach()), student)
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.any()


def assert_float32_inside(loss, student, teacher, dtype=torch.bfloat16, rtol=1e-3):
    """Under autocast, of half-precision inputs, the value is float32's and the gradient finite."""
    student, teacher = student.to(dtype), teacher.to(dtype)
    expected = loss(student.double(), teacher.double())
    student.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(student, teacher.float())
    value.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=rtol, atol=1e-6)
    assert student.grad.isfinite().all()


def assert_zero_that_backpropagates(loss, student, teacher):
    """The value is 0, and the student gets a gradient of zeros."""
    student = student.clone().requires_grad_()
    value = loss(student, teacher)
    value.backward()
    assert value.item() == 0
    assert student.grad.shape == student.shape
    assert not student.grad.any()

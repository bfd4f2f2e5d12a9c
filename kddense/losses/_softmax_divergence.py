"""The divergence of two softmax distributions in three copies of the logits, and what losses built on it share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def softmax_divergence(student: Tensor, teacher: Tensor, kind: str, temperature: float = 1.0, dim: int = 1) -> Tensor:
    """Compare ``q = softmax(student / τ)`` with ``p = softmax(teacher / τ)`` at every position.

    Autograd would keep five copies of the logits alive. The gradients are short formulas of what the value needs
    anyway, so both are computed together, in place, and one tensor is kept: three copies at the peak.

    Args:
        student: Logits, float32 or float64.
        teacher: Logits of the same shape and dtype. No gradient flows into it.
        kind: ``'student_teacher'`` for KL(q ‖ p), ``'teacher_student'`` for KL(p ‖ q), or ``'cross_entropy'`` for
            -Σ p log q, which is KL(p ‖ q) and the teacher's entropy.
        temperature: τ, above 0.
        dim: The dimension that is summed over.

    Returns:
        One value per position: the logits' shape without ``dim``; not multiplied by τ². Differentiable once.
    """
    divergence: Tensor = _SoftmaxDivergence.apply(student, teacher.detach(), kind, temperature, dim)
    return divergence


def check_logits(student: Tensor, dim: int, mask: Tensor | None) -> None:
    """Raise ``ValueError`` unless the logits have classes in ``dim`` and ``mask`` is boolean and of the positions."""
    shape = tuple(student.shape)
    if not -student.ndim <= dim < student.ndim:
        raise ValueError(f'dim must name a dimension of logits of shape {shape}, got {dim}')
    if shape[dim] == 0:
        raise ValueError(f'logits must hold at least one class, got shape {shape} with the classes in dim {dim}')
    if mask is None:
        return
    class_dim = dim % student.ndim
    check_mask(mask, shape[:class_dim] + shape[class_dim + 1 :])


def check_mask(mask: Tensor, positions: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless ``mask`` is boolean and of the shape of the positions."""
    if mask.dtype != torch.bool:
        raise ValueError(f'mask must be boolean, got {mask.dtype}')
    if tuple(mask.shape) != positions:
        raise ValueError(f'mask must have the shape of the positions, {positions}, got {tuple(mask.shape)}')


def mean_over_positions(per_position: Tensor, mask: Tensor | None) -> Tensor:
    """Average over the positions that ``mask`` keeps; a 0 that back-propagates if there are none."""
    if mask is None:
        return per_position.sum() / max(per_position.numel(), 1)
    kept = torch.where(mask, per_position, torch.zeros_like(per_position))
    return kept.sum() / mask.sum().clamp(min=1)


class _SoftmaxDivergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, kind: str, temperature: float, dim: int
    ) -> Tensor:
        per_position, gradient = _KINDS[kind](student, teacher, temperature, dim)
        ctx.dim = dim
        ctx.temperature = temperature
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(gradient)
        return per_position

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, per_position: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (per_position / ctx.temperature).unsqueeze(ctx.dim), None, None, None, None


def _student_teacher(student: Tensor, teacher: Tensor, temperature: float, dim: int) -> tuple[Tensor, Tensor]:
    log_ratio = _log_softmax(student, temperature, dim)
    probability = log_ratio.exp()
    log_ratio -= _log_softmax(teacher, temperature, dim)
    per_position = (probability * log_ratio).sum(dim)
    return per_position, log_ratio.sub_(per_position.unsqueeze(dim)).mul_(probability)


def _teacher_student(student: Tensor, teacher: Tensor, temperature: float, dim: int) -> tuple[Tensor, Tensor]:
    log_student = _log_softmax(student, temperature, dim)
    log_ratio = _log_softmax(teacher, temperature, dim)
    target = log_ratio.exp()
    per_position = log_ratio.sub_(log_student).mul_(target).sum(dim)
    return per_position, log_student.exp_().sub_(target)


def _cross_entropy(student: Tensor, teacher: Tensor, temperature: float, dim: int) -> tuple[Tensor, Tensor]:
    log_student = _log_softmax(student, temperature, dim)
    target = _log_softmax(teacher, temperature, dim).exp_()
    per_position = -(target * log_student).sum(dim)
    return per_position, log_student.exp_().sub_(target)


_KINDS = dict(student_teacher=_student_teacher, teacher_student=_teacher_student, cross_entropy=_cross_entropy)


def _log_softmax(logits: Tensor, temperature: float, dim: int) -> Tensor:
    return F.log_softmax(logits if temperature == 1 else logits / temperature, dim)

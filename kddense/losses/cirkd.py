"""CIRKD (Yang, Zhou, An, Jiang, Xu, Zhang, "Cross-Image Relational Knowledge Distillation", CVPR 2022)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kddense.losses._checks import check_positive, full_precision
from kddense.losses._vectors import inner_products, unit_vectors
from kddense.losses.hinton import soft_target_divergence
from kddense.registry import MODELS


def cross_image_divergence(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    """Divergence of how like each place of an image is to the places of every image of the batch.

    With features of length 1 as rows, ``S_ij = F_i F_jᵀ`` holds the cosines of all places of image i with all of j. The
    mini-batch term is ``1 / N² · Σ over i and j of the mean over rows of KL(softmax(T_ij / τ) ‖ softmax(S_ij / τ))``.
    Averaged over pairs of images and over places, summed over what a place is compared with.

    Only similarities are imitated: the two may differ in channels. The gradient is computed along with the value, row of
    images by row, so that memory is that of one image's places times all places.

    The places are those of the batch at hand: two processes with half of it each do not add up to one with the whole.

    Args:
        student: Features, shape ``(N, C, H, W)``, of any floating dtype; computed in float32, or in float64 if either
            input is.
        teacher: Features ``(N, C', H, W)``. No gradient flows into it.
        temperature: The paper's τ, above 0.

    Returns:
        A scalar; for maps without elements, a 0 that back-propagates.

    Raises:
        ValueError: If the inputs are not maps of one size, or ``temperature`` is not above 0.

    Example:
        >>> student = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 1.0]]])[..., None]
        >>> teacher = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]])[..., None]
        >>> cross_image_divergence(student, teacher)
        tensor(0.6508)
    """
    check_positive('temperature', temperature)
    sizes = [(len(side), *side.shape[2:]) for side in (student, teacher)]
    if student.ndim != 4 or teacher.ndim != 4 or sizes[0] != sizes[1]:
        raise ValueError(
            f'student and teacher must be maps (N, C, H, W) of one size, got {tuple(student.shape)}, {tuple(teacher.shape)}'
        )
    student, teacher = full_precision(student, teacher.detach())
    if student.numel() == 0:
        return student.sum() * 0
    ours, theirs = (unit_vectors(side.flatten(2).transpose(1, 2)) for side in (student, teacher))
    return _CrossImage.apply(ours, theirs, temperature)


class _CrossImage(torch.autograd.Function):
    """Of features of length 1 as rows, ``(N, P, C)``."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        gradient = torch.zeros_like(student) if ctx.needs_input_grad[0] else None
        total = student.new_zeros(())
        share = 1 / (len(student) ** 2 * student.shape[1])
        for own in range(len(student)):
            for other in range(own, len(student)):
                s, t = (inner_products(side[own], side[other]) / temperature for side in (student, teacher))
                value, slope = _divergence(s, t, 1)
                if own != other:  # what other images see of this one stands in the columns
                    turned, more = _divergence(s, t, 0)
                    value, slope = value + turned, slope.add_(more)
                total += value * share
                if gradient is not None:
                    slope.mul_(share / temperature)
                    gradient[own] += inner_products(slope, student[other].T)
                    gradient[other] += inner_products(slope.T, student[own].T)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None


def _divergence(student: Tensor, teacher: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the divergence of two softmax distributions, summed, and its gradient with respect to the student's logits."""
    log_s, log_t = student.log_softmax(dim), teacher.log_softmax(dim)
    wanted = log_t.exp()
    value = (wanted * log_t.sub_(log_s)).sum()
    return value, log_s.exp_().sub_(wanted)


def memory_divergence(student: Tensor, teacher: Tensor, remembered: Tensor, temperature: float = 0.1) -> Tensor:
    """Divergence of how like each place is to remembered vectors, the paper's terms with a memory.

    ``mean over places of KL(softmax(T Vᵀ / τ) ‖ softmax(S Vᵀ / τ))``, with places and remembered vectors of length 1.

    Args:
        student: Vectors of places in the teacher's space, shape ``(P, C)``, of any floating dtype; computed in float32, or
            in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        remembered: Shape ``(M, C)``. No gradient flows into it.
        temperature: The paper's τ, above 0.

    Returns:
        A scalar; without places or remembered vectors, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes do not fit, or ``temperature`` is not above 0.
    """
    check_positive('temperature', temperature)
    if student.ndim != 2 or student.shape != teacher.shape or remembered.shape[1:] != student.shape[1:]:
        shapes = ', '.join(str(tuple(one.shape)) for one in (student, teacher, remembered))
        raise ValueError(f'student, teacher and remembered must be rows of as many channels, got {shapes}')
    student, teacher, remembered = full_precision(student, teacher.detach(), remembered.detach())
    if len(remembered) == 0:
        return student.sum() * 0
    vectors = unit_vectors(remembered)
    ours, theirs = (inner_products(unit_vectors(side), vectors) for side in (student, teacher))
    return soft_target_divergence(ours / temperature, theirs / temperature)


@MODELS.register_module()
class CrossImageLoss(nn.Module):
    """:func:`cross_image_divergence`, averaged over pairs of images and over places.

    Args:
        temperature: The paper's τ, above 0.

    Raises:
        ValueError: If ``temperature`` is not above 0.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        check_positive('temperature', temperature)
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return cross_image_divergence(student, teacher, self.temperature)

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}'

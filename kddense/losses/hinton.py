"""Soft targets (Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, section 2)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import check_choice, check_mask, check_positive, check_same_shape, full_precision, mean_over
from kddense.losses._softmax_divergence import finite_logits, softmax_divergence
from kddense.losses.logit_std import check_standardize, standardize_logits
from kddense.registry import MODELS


def soft_target_divergence(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, dim: int = 1, mask: Tensor | None = None
) -> Tensor:
    """Divergence of the student's softened class probabilities from the teacher's.

    ``τ² · mean over positions of KL(softmax(t / τ) ‖ softmax(s / τ))``. A position is whatever the dimensions other
    than ``dim`` count: a row of ``(R, C)`` logits, a pixel of ``(N, C, H, W)`` logits. Classes are summed, as KL
    demands, and never averaged. The factor τ² keeps the gradient's size about constant when τ changes.

    The paper minimises the cross-entropy with the soft targets. That is this value plus the teacher's entropy, which no
    student can change, so the gradients are the same; the divergence is 0 when student and teacher agree. Other codes
    average elsewhere: RepDistiller's sum over (N, C) divided by N is the same; ``nn.KLDivLoss`` left at its default
    also averages over classes and is C times smaller; dividing by N alone makes maps H·W times larger.

    Args:
        student: Logits of any floating dtype; computed in float32, or in float64 if either input is.
        teacher: Logits of the same shape. No gradient flows into it.
        temperature: The paper's T, above 0.
        dim: The dimension of the classes.
        mask: True where a position counts, boolean, of the logits' shape without ``dim``. All count without it.

    Returns:
        A scalar; if no position counts, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes do not fit, ``mask`` is not boolean, ``dim`` does not exist or holds no class, or
            ``temperature`` is not above 0.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[2.0, 0.0, -2.0]])
        >>> student = torch.tensor([[1.0, 0.0, 0.0]])
        >>> soft_target_divergence(student, teacher, temperature=2.0)
        tensor(0.5174)
        >>> pixels = torch.randn(2, 19, 8, 16)
        >>> soft_target_divergence(pixels, pixels).item()
        0.0
    """
    _check(student, teacher, temperature, dim, mask)
    student, teacher = _soften(student, teacher, temperature)
    per_position = softmax_divergence(student, teacher, dim, student_first=False)
    return temperature**2 * mean_over(per_position, mask)


def sigmoid_soft_target_divergence(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, dim: int = 1, mask: Tensor | None = None
) -> Tensor:
    """:func:`soft_target_divergence` for sigmoid heads, where each class is a yes or no of its own.

    ``τ² · mean over positions of Σ_c KL(Bernoulli(σ(t_c / τ)) ‖ Bernoulli(σ(s_c / τ)))``: averaged over positions,
    summed over classes. It equals the binary cross-entropy with the teacher's probabilities as targets less the
    teacher's own entropy, thus is 0 when both agree, with the same gradient. The paper treats softmax only; this is its
    binary case, applied class by class.

    Args:
        student: Logits of any floating dtype; computed in float32, or in float64 if either input is.
        teacher: Logits of the same shape. No gradient flows into it.
        temperature: Above 0.
        dim: The dimension of the classes.
        mask: True where a position counts, boolean, of the logits' shape without ``dim``. All count without it.

    Returns:
        A scalar; if no position counts, a 0 that back-propagates.

    Raises:
        ValueError: As :func:`soft_target_divergence`.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[2.0, -1.0]])
        >>> student = torch.tensor([[1.0, 0.0]])
        >>> sigmoid_soft_target_divergence(student, teacher)
        tensor(0.1781)
    """
    _check(student, teacher, temperature, dim, mask)
    student, teacher = _soften(student, teacher, temperature)
    teacher = finite_logits(teacher)
    target = teacher.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(student, target, reduction='none')
    entropy = F.binary_cross_entropy_with_logits(teacher, target, reduction='none')
    return temperature**2 * mean_over((cross_entropy - entropy).sum(dim), mask)


@MODELS.register_module()
class HintonLoss(nn.Module):
    """:func:`soft_target_divergence` or :func:`sigmoid_soft_target_divergence`, averaged over positions.

    Args:
        temperature: The paper's T, above 0. The paper tried 1 to 20.
        mode: ``'softmax'`` where one class excludes the others, ``'sigmoid'`` where each class is decided on its own.
        dim: The dimension of the classes: 1 for rows and for maps, -1 for tokens ``(N, L, C)``.
        standardize: Logit standardisation (Sun et al. 2024): before the softmax, both networks' logits are brought to mean 0
            and standard deviation 1 over classes; see :func:`kddense.losses.standardize_logits`. Its paper has the
            temperature 2.

    Raises:
        ValueError: If ``temperature`` is not above 0, ``mode`` is neither of the two, or sigmoid classes are to be
            standardised.

    Example:
        >>> import torch
        >>> loss = HintonLoss(temperature=2.0)
        >>> loss(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[2.0, 0.0, -2.0]]))
        tensor(0.5174)
    """

    compares_classes = True  # a layer between the logits would pair classes that are not the same

    def __init__(
        self, temperature: float = 1.0, mode: str = 'softmax', dim: int = 1, standardize: bool = False
    ) -> None:
        super().__init__()
        check_positive('temperature', temperature)
        check_choice('mode', mode, ('softmax', 'sigmoid'))
        check_standardize(standardize, mode)
        self.temperature = temperature
        self.mode = mode
        self.dim = dim
        self.standardize = standardize

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; ``mask`` is True where a position counts."""
        if self.standardize:
            student, teacher = standardize_logits(student, self.dim), standardize_logits(teacher.detach(), self.dim)
        divergence = soft_target_divergence if self.mode == 'softmax' else sigmoid_soft_target_divergence
        return divergence(student, teacher, self.temperature, self.dim, mask)

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}, mode={self.mode!r}, dim={self.dim}, standardize={self.standardize}'


def _check(student: Tensor, teacher: Tensor, temperature: float, dim: int, mask: Tensor | None) -> None:
    check_same_shape(student=student, teacher=teacher)
    check_positive('temperature', temperature)
    shape = tuple(student.shape)
    if not -student.ndim <= dim < student.ndim:
        raise ValueError(f'dim must name a dimension of logits of shape {shape}, got {dim}')
    if shape[dim] == 0:
        raise ValueError(f'logits must hold at least one class, got shape {shape} with the classes in dim {dim}')
    class_dim = dim % student.ndim
    check_mask(mask, shape[:class_dim] + shape[class_dim + 1 :])


def _soften(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    student, teacher = full_precision(student, teacher.detach())
    if temperature == 1:
        return student, teacher
    return student / temperature, teacher / temperature

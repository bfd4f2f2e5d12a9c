"""Neuron selectivity transfer (Huang and Wang, "Like What You Like", arXiv:1707.01219, 2017)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from kddense.losses._checks import check_choice, check_not_negative, check_positive, full_precision
from kddense.losses._vectors import inner_products, unit_vectors
from kddense.registry import MODELS

KERNELS = ('linear', 'polynomial', 'gaussian')


def neuron_selectivity_distance(
    student: Tensor,
    teacher: Tensor,
    kernel: Literal['linear', 'polynomial', 'gaussian'] = 'polynomial',
    degree: int = 2,
    offset: float = 0.0,
    variance: float | None = None,
) -> Tensor:
    """Squared maximum mean discrepancy of the patterns to which the channels of two networks respond.

    Each channel, a vector over positions of length 1, is a sample of a distribution; the two networks' distributions are
    compared, so their channels need not agree in number or order:

    ``mean of k(t, t') + mean of k(s, s') - 2 · mean of k(t, s)``, each mean over pairs of channels, all over images.

    ========== ============================ =============================================================
    kernel     ``k(x, y)``                  what it matches
    ========== ============================ =============================================================
    linear     ``xᵀy``                      the mean of the patterns, much as attention transfer does
    polynomial ``(xᵀy + c)^d``              for d = 2, c = 0 the Gram matrix of positions, as style transfer
    gaussian   ``exp(-‖x - y‖² / 2σ²)``     all moments; σ² is the mean squared distance of s and t
    ========== ============================ =============================================================

    Only matrices of channels by channels are made, never of positions by positions. The authors' code leaves out the term of
    the teacher alone, which no student can change: its gradients are these, its values are less and may be below 0.

    Args:
        student: Features, shape ``(N, C, H, W)``, of any floating dtype; computed in float32, or in float64 if either is.
        teacher: The teacher's, shape ``(N, C', H, W)``. No gradient flows into it.
        kernel: ``'linear'``, ``'polynomial'`` or ``'gaussian'``.
        degree: The polynomial's d, at least 1; 2 in the paper.
        offset: The polynomial's c, at least 0; 0 in the paper.
        variance: The Gaussian's σ², above 0; by default that of the batch, a constant to the gradient.

    Returns:
        A scalar; a 0 that back-propagates if there is no image, channel or position.

    Raises:
        ValueError: If the maps differ in images or positions, or an argument is not one of these.

    Example:
        >>> teacher = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]]])
        >>> neuron_selectivity_distance(torch.ones(1, 1, 2, 2), teacher)
        tensor(0.6250)
    """
    _check_kernel(kernel, degree, offset, variance)
    if student.ndim != 4 or student.shape[:1] != teacher.shape[:1] or student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            'student and teacher must be maps (N, C, H, W) of as many images and positions, got '
            f'{tuple(student.shape)}, {tuple(teacher.shape)}'
        )
    if 0 in (student.numel(), teacher.numel()):
        return student.sum() * 0
    own, other = (unit_vectors(one.flatten(2)) for one in full_precision(student, teacher.detach()))
    products = [inner_products(left, right) for left, right in ((own, own), (other, other), (own, other))]
    if kernel == 'gaussian':
        products = _gaussian(products, variance)
    elif kernel == 'polynomial':
        products = [(product + offset) ** degree for product in products]
    within_own, within_other, between = (product.mean() for product in products)
    return within_other + within_own - 2 * between


def _gaussian(products: list[Tensor], variance: float | None) -> list[Tensor]:
    """Return the kernel's values for the products of vectors within and between two groups; dead channels have length 0."""
    lengths = [product.diagonal(dim1=1, dim2=2) for product in products[:2]]
    pairs = ((0, 0), (1, 1), (0, 1))
    distances = [
        lengths[left][:, :, None] + lengths[right][:, None] - 2 * product
        for (left, right), product in zip(pairs, products, strict=True)
    ]
    if variance is None:
        spread = distances[2].detach().mean(dim=(1, 2), keepdim=True)
        spread = torch.where(spread == 0, torch.ones_like(spread), spread)  # all channels are one: every kernel is 1
    else:
        spread = torch.as_tensor(variance).to(distances[2])
    return [torch.exp(-distance / (2 * spread)) for distance in distances]


@MODELS.register_module()
class NSTLoss(nn.Module):
    """:func:`neuron_selectivity_distance`, averaged over pairs of channels and images.

    Args:
        kernel: ``'linear'``, ``'polynomial'`` or ``'gaussian'``.
        degree: The polynomial's d, at least 1.
        offset: The polynomial's c, at least 0.
        variance: The Gaussian's σ², above 0; that of the batch by default.

    Raises:
        ValueError: If an argument is not one of these.
    """

    takes_any_channels = True

    def __init__(
        self,
        kernel: Literal['linear', 'polynomial', 'gaussian'] = 'polynomial',
        degree: int = 2,
        offset: float = 0.0,
        variance: float | None = None,
    ) -> None:
        super().__init__()
        _check_kernel(kernel, degree, offset, variance)
        self.kernel = kernel
        self.degree = degree
        self.offset = offset
        self.variance = variance

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return neuron_selectivity_distance(
            student,
            teacher,
            self.kernel,
            self.degree,
            self.offset,
            self.variance,
        )

    def extra_repr(self) -> str:
        return f'kernel={self.kernel!r}, degree={self.degree}, offset={self.offset}, variance={self.variance}'


def _check_kernel(kernel: str, degree: int, offset: float, variance: float | None) -> None:
    check_choice('kernel', kernel, KERNELS)
    if isinstance(degree, bool) or not isinstance(degree, int) or degree < 1:
        raise ValueError(f'degree must be a whole number that is at least 1, got {degree!r}')
    check_not_negative('offset', offset)
    if variance is not None:
        check_positive('variance', variance)

"""Attention transfer (Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from kddense.losses._checks import check_choice, check_same_shape, full_precision
from kddense.losses._vectors import unit_vectors
from kddense.registry import MODELS


def attention_map(features: Tensor, reduce: Literal['sum', 'max'] = 'sum', power: float = 2.0) -> Tensor:
    """Where a network looks: the energy of all channels at each position, of length 1 over positions.

    ``Q = q / ‖q‖₂`` with ``q = Σ_c |A_c|^p``, or the greatest ``|A_c|^p``.

    Args:
        features: Activations, or gradients, shape ``(N, C, H, W)``.
        reduce: ``'sum'`` over channels, or ``'max'``.
        power: The paper's p, at least 1; 2 by default. A greater one favours the strongest places.

    Returns:
        Shape ``(N, H * W)``, in float32, or in float64 if ``features`` is; 0 for an image whose features are all 0.

    Raises:
        ValueError: If ``features`` is no map, ``reduce`` is unknown or ``power`` is below 1.

    Example:
        >>> attention_map(torch.tensor([[[[1.0, 0.0]], [[1.0, 2.0]]]]))
        tensor([[0.4472, 0.8944]])
    """
    _check_options(reduce, power)
    if features.ndim != 4:
        raise ValueError(f'attention needs maps of shape (N, C, H, W), got {tuple(features.shape)}')
    (features,) = full_precision(features)
    energy = features.square() if power == 2 else features.abs().pow(power)
    energy = energy.sum(dim=1) if reduce == 'sum' else energy.amax(dim=1)
    return unit_vectors(energy.flatten(1))


def attention_distance(
    student: Tensor,
    teacher: Tensor,
    reduce: Literal['sum', 'max'] = 'sum',
    power: float = 2.0,
    mode: Literal['code', 'paper'] = 'code',
) -> Tensor:
    """The distance of two :func:`attention_map` s.

    The authors' code takes the mean of the squared differences over images and positions, and gives it the weight 1000; the
    published numbers are its. The paper writes the norm of the difference, here averaged over images: with P positions, the
    code's value for an image is the paper's squared, by P. The paper's factor β/2 belongs to the objective.

    Args:
        student: Features, shape ``(N, C, H, W)``, of any floating dtype; computed in float32, or in float64 if either is.
        teacher: The teacher's, shape ``(N, C', H, W)``. No gradient flows into it.
        reduce: See :func:`attention_map`.
        power: See :func:`attention_map`.
        mode: ``'code'`` or ``'paper'``.

    Returns:
        A scalar; a 0 that back-propagates if there is no image or no position.

    Raises:
        ValueError: If the maps differ in images or positions, or as :func:`attention_map`.

    Example:
        >>> teacher = torch.tensor([[[[1.0, 0.0], [2.0, 1.0]], [[1.0, 2.0], [0.0, 1.0]]]])
        >>> attention_distance(torch.ones(1, 3, 2, 2), teacher)
        tensor(0.0257)
    """
    check_choice('mode', mode, ('code', 'paper'))
    _check_positions(student, teacher)
    own, other = attention_map(student, reduce, power), attention_map(teacher.detach(), reduce, power)
    difference = own - other.to(own.dtype)
    if difference.numel() == 0:
        return student.sum() * 0
    return difference.square().mean() if mode == 'code' else torch.linalg.vector_norm(difference, dim=1).mean()


def gradient_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The distance of two gradients of a loss with respect to the image, ``‖J_S - J_T‖₂``, averaged over images.

    Args:
        student: The gradient of the student's own loss, shape ``(N, ...)``, made with ``create_graph=True``.
        teacher: The teacher's, same shape. No gradient flows into it.

    Returns:
        A scalar.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> gradient_distance(torch.tensor([[-1.5, -1.5]]), torch.tensor([[0.5, -0.5]]))
        tensor(2.2361)
    """
    check_same_shape(student=student, teacher=teacher)
    student, teacher = full_precision(student, teacher.detach())
    if student.numel() == 0:
        return student.sum() * 0
    return torch.linalg.vector_norm((student - teacher).flatten(1), dim=1).mean()


@MODELS.register_module()
class ATLoss(nn.Module):
    """:func:`attention_distance`: the mean over images and positions, or over images the norm.

    Args:
        reduce: ``'sum'`` or ``'max'`` over channels.
        power: The paper's p, at least 1.
        mode: ``'code'`` or ``'paper'``.

    Raises:
        ValueError: If an argument is not one of these.
    """

    takes_any_channels = True

    def __init__(
        self,
        reduce: Literal['sum', 'max'] = 'sum',
        power: float = 2.0,
        mode: Literal['code', 'paper'] = 'code',
    ) -> None:
        super().__init__()
        _check_options(reduce, power)
        check_choice('mode', mode, ('code', 'paper'))
        self.reduce = reduce
        self.power = power
        self.mode = mode

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return attention_distance(student, teacher, self.reduce, self.power, self.mode)

    def extra_repr(self) -> str:
        return f'reduce={self.reduce!r}, power={self.power}, mode={self.mode!r}'


def _check_options(reduce: str, power: float) -> None:
    check_choice('reduce', reduce, ('sum', 'max'))
    if not (math.isfinite(power) and power >= 1):
        raise ValueError(f'power must be at least 1, got {power}')


def _check_positions(student: Tensor, teacher: Tensor) -> None:
    if student.shape[:1] != teacher.shape[:1] or student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            'student and teacher must be maps of as many images and positions, got '
            f'{tuple(student.shape)}, {tuple(teacher.shape)}'
        )

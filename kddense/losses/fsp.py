"""Flow of solution procedure (Yim, Joo, Bae and Kim, "A Gift from Knowledge Distillation", CVPR 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from kddense.losses._checks import check_choice, check_same_shape, full_precision
from kddense.losses._flows import Layer, pooled, squared_distance
from kddense.losses._vectors import inner_products
from kddense.registry import MODELS


def flow_matrix(first: Tensor, second: Tensor) -> Tensor:
    """What flows between two layers: the inner products of their channels over positions, by the number of positions.

    Where the maps differ in size, the larger is averaged down to the smaller, height and width each.

    Args:
        first: The earlier layer's features, shape ``(N, m, H, W)``.
        second: The later layer's, shape ``(N, n, H', W')``.

    Returns:
        Shape ``(N, m, n)``, in float32, or in float64 if either input is.

    Raises:
        ValueError: If these are not maps of as many images.
    """
    return inner_products(*_pooled(first, second))


def _pooled(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.ndim != 4 or second.ndim != 4 or len(first) != len(second):
        raise ValueError(
            f'a flow needs two maps (N, C, H, W) of as many images, got {tuple(first.shape)}, {tuple(second.shape)}'
        )
    return pooled(first, second)


def flow_distance(student: Tensor, teacher: Tensor, mode: Literal['code', 'paper'] = 'code') -> Tensor:
    """The squared distance of two :func:`flow_matrix` es.

    Args:
        student: Shape ``(N, m, n)``; computed in float32, or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        mode: ``'code'`` (RepDistiller's, which gives it the weight 50): averaged over images and entries. ``'paper'``: the
            squared Frobenius norm, averaged over images, m·n times as large; its weight is not known.

    Returns:
        A scalar; a 0 that back-propagates if there is no image.

    Raises:
        ValueError: If the shapes differ or ``mode`` is unknown.

    Example:
        >>> teacher = flow_matrix(torch.tensor([[[[1.0, 2], [3, 4]], [[0, 1], [1, 0]]]]), torch.ones(1, 1, 2, 2))
        >>> student = flow_matrix(torch.ones(1, 2, 2, 2), torch.ones(1, 1, 2, 2))
        >>> flow_distance(student, teacher), flow_distance(student, teacher, mode='paper')
        (tensor(1.2500), tensor(2.5000))
    """
    check_choice('mode', mode, ('code', 'paper'))
    check_same_shape(student=student, teacher=teacher)
    student, teacher = full_precision(student, teacher.detach())
    if student.numel() == 0:
        return student.sum() * 0
    squared = (student - teacher).square()
    return squared.mean() if mode == 'code' else squared.sum() / len(squared)


@MODELS.register_module()
class FSPLoss(nn.Module):
    """:func:`flow_distance` of what flows between two layers of each network.

    Args:
        mode: ``'code'`` or ``'paper'``.

    Raises:
        ValueError: If ``mode`` is unknown.
    """

    def __init__(self, mode: Literal['code', 'paper'] = 'code') -> None:
        super().__init__()
        check_choice('mode', mode, ('code', 'paper'))
        self.mode = mode

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], layers: Sequence[Layer] | None = None
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            student: Two layers of the student, ``(N, c, H, W)`` and ``(N, d, H', W')``.
            teacher: Two of the teacher's, of ``m`` and ``n`` channels.
            layers: 1x1 convolutions from the student's channels to the teacher's, each as weight ``(m, c)`` and bias
                ``(m,)``; applied here, where they cost less than on the maps.

        Raises:
            ValueError: If these are not maps of as many images, or the flows differ in their shape.
        """
        ours, theirs = _pooled(*student), _pooled(*(one.detach() for one in teacher))
        channels = [len(weight) for weight, _ in layers] if layers else [one.shape[1] for one in ours]
        shape, other = (len(ours[0]), *channels), (len(theirs[0]), *(one.shape[1] for one in theirs))
        if shape != other:
            raise ValueError(f'the flows of student and teacher must have one shape, got {shape}, {other}')
        return squared_distance(ours, theirs, layers) / max(math.prod(shape) if self.mode == 'code' else shape[0], 1)

    def extra_repr(self) -> str:
        return f'mode={self.mode!r}'

"""Feature hints (Romero et al., "FitNets", ICLR 2015, equation 3; Chen et al., NeurIPS 2017, section 3.4)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import check_choice, check_same_shape, full_precision
from kddense.registry import MODELS


def hint_distance(student: Tensor, teacher: Tensor, norm: str = 'l2') -> Tensor:
    """Mean squared, or absolute, difference of two features.

    Chen et al. write ``‖V - Z‖²`` (or ``‖V - Z‖₁``) and do not say what it is divided by. A raw sum over a
    convolutional map would drown every other term at their weight of 0.5, therefore this is the mean over all elements:
    batch, channels and positions alike.

    Args:
        student: The student's feature after its connector, of any shape and floating dtype; computed in float32, or in
            float64 if either input is.
        teacher: The teacher's feature, same shape. No gradient flows into it.
        norm: ``'l2'`` for squared, ``'l1'`` for absolute differences.

    Returns:
        A scalar; for features without elements, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes differ or ``norm`` is neither of the two.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> student = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
        >>> hint_distance(student, teacher)
        tensor(1.5000)
        >>> hint_distance(student, teacher, norm='l1')
        tensor(1.)
    """
    check_same_shape(student=student, teacher=teacher)
    check_choice('norm', norm, ('l2', 'l1'))
    student, teacher = full_precision(student, teacher.detach())
    distance = F.mse_loss if norm == 'l2' else F.l1_loss
    return distance(student, teacher, reduction='sum') / max(student.numel(), 1)


def fitnets_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared Euclidean distance of two features, as FitNets prints it, averaged over the batch.

    ``½ · Σ (s - t)² / N``: summed over channels and positions, so it grows with the size of the map, unlike
    :func:`hint_distance`, which is ``2 / (C·H·W)`` of it.

    Args:
        student: The student's feature after its connector (the paper's regressor), batch first, of any floating dtype;
            computed in float32, or in float64 if either input is.
        teacher: The teacher's feature, same shape. No gradient flows into it.

    Returns:
        A scalar; for an empty batch, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes differ or there is no batch dimension.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> student = torch.tensor([[[[1.0, 1.0], [2.0, 2.0]]]])
        >>> fitnets_distance(student, teacher)
        tensor(3.)
    """
    check_same_shape(student=student, teacher=teacher)
    if student.ndim == 0:
        raise ValueError('student and teacher must have a batch dimension, got scalars')
    student, teacher = full_precision(student, teacher.detach())
    return 0.5 * F.mse_loss(student, teacher, reduction='sum') / max(len(student), 1)


@MODELS.register_module()
class HintLoss(nn.Module):
    """:func:`hint_distance`, or :func:`fitnets_distance` for the scale that FitNets prints.

    Args:
        norm: ``'l2'`` for squared, ``'l1'`` for absolute differences.
        mode: ``'mean'`` averages over all elements, as Chen et al.'s weight of 0.5 needs; ``'fitnets'`` is half the
            sum, averaged over the batch, and has no L1 form.

    Raises:
        ValueError: If ``norm`` or ``mode`` is unknown, or ``mode='fitnets'`` is asked for with ``norm='l1'``.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
        >>> HintLoss()(student, teacher), HintLoss(mode='fitnets')(student, teacher)
        (tensor(1.), tensor(24.))
    """

    def __init__(self, norm: str = 'l2', mode: str = 'mean') -> None:
        super().__init__()
        check_choice('norm', norm, ('l2', 'l1'))
        check_choice('mode', mode, ('mean', 'fitnets'))
        if mode == 'fitnets' and norm != 'l2':
            raise ValueError(f"mode='fitnets' is a squared distance and needs norm='l2', got norm={norm!r}")
        self.norm = norm
        self.mode = mode

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        if self.mode == 'fitnets':
            return fitnets_distance(student, teacher)
        return hint_distance(student, teacher, self.norm)

    def extra_repr(self) -> str:
        return f'norm={self.norm!r}, mode={self.mode!r}'

"""Class-weighted soft targets (Chen et al., NeurIPS 2017, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import check_choice, check_not_negative, check_positive, check_same_shape, full_precision
from kddense.losses.logit_std import check_standardize, standardize_logits
from kddense.registry import MODELS


def weighted_soft_cross_entropy(
    student: Tensor, teacher: Tensor, class_weight: Tensor, temperature: float = 1.0
) -> Tensor:
    """Cross-entropy with the teacher's soft targets, each class column weighted.

    ``-T² · Σ_c w_c · P_t[c] · log P_s[c]`` with ``P = softmax(z / T)``. The weight belongs to the column, not to the
    row: in every row, whatever its label, the share of the background counts ``w_background`` times. Detectors err
    between background and object far more often than between objects, hence the paper's 1.5 for background and 1
    elsewhere.

    It is a cross-entropy, not a divergence: where student and teacher agree it is the teacher's (weighted) entropy, not
    0. With unequal weights its minimum is not the teacher either, but the teacher re-weighted, ``P_s ∝ w · P_t``. The
    paper finds T = 1 best and writes no T²; the factor is ours, and keeps the gradient's size for other T.

    A sigmoid head with one logit ``z`` is the softmax over the two columns ``[z, 0]`` (object, background), exactly and
    at every temperature.

    Args:
        student: Logits, shape ``(R, C)``; any floating dtype, computed in float32, or in float64 if any input is.
        teacher: The teacher's logits for the same rows, same shape. No gradient flows into it.
        class_weight: One weight per column, shape ``(C,)``, at least 0 each (not checked: it may live on a GPU).
        temperature: The paper's T, above 0.

    Returns:
        One value per row, shape ``(R,)``; not averaged.

    Raises:
        ValueError: If the logits are not of one shape ``(R, C)``, ``class_weight`` is not ``(C,)`` or ``temperature``
            is not above 0.

    Example:
        >>> teacher = torch.tensor([[2.0, 0.0, 0.0]])  # background first, as in the paper
        >>> student = torch.tensor([[1.0, 0.0, 0.0]])
        >>> weighted_soft_cross_entropy(student, teacher, torch.tensor([1.5, 1.0, 1.0]))
        tensor([0.9814])
    """
    check_same_shape(student=student, teacher=teacher)
    if student.ndim != 2:
        raise ValueError(f'student and teacher must be rows of logits, shape (R, C), got {tuple(student.shape)}')
    check_positive('temperature', temperature)
    if class_weight.shape != student.shape[1:]:
        columns = student.shape[1]
        raise ValueError(f'class_weight must have shape ({columns},), got {tuple(class_weight.shape)}')
    student, teacher, class_weight = full_precision(student, teacher.detach(), class_weight.to(student.device))
    weighted_target = class_weight * F.softmax(teacher / temperature, dim=1)
    return -(temperature**2) * (weighted_target * F.log_softmax(student / temperature, dim=1)).sum(dim=1)


def weighted_soft_binary_cross_entropy(
    student: Tensor, teacher: Tensor, background_weight: float = 1.5, temperature: float = 1.0
) -> Tensor:
    """:func:`weighted_soft_cross_entropy` for sigmoid heads, where each class is a yes or no of its own.

    ``-T² · Σ_c (p_t[c] · log p_s[c] + w · (1 - p_t[c]) · log(1 - p_s[c]))`` with ``p = σ(z / T)``. A sigmoid head has no
    background column: the background is what is left of each class, so its weight belongs to the share ``1 - p_t``. The
    paper treats softmax only; this is its form for the two columns ``[z, 0]``, class by class.

    Args:
        student: Logits, shape ``(R, K)``; any floating dtype, computed in float32, or in float64 if either input is.
        teacher: The teacher's logits for the same rows, same shape. No gradient flows into it.
        background_weight: The weight w, at least 0.
        temperature: The paper's T, above 0.

    Returns:
        One value per row, shape ``(R,)``: summed over classes, not averaged.

    Raises:
        ValueError: If the logits are not of one shape ``(R, K)``, ``background_weight`` is negative or ``temperature`` is
            not above 0.

    Example:
        >>> student, teacher = torch.tensor([[0.6], [0.6]]).logit(), torch.tensor([[0.8], [0.6]]).logit()
        >>> weighted_soft_binary_cross_entropy(student, teacher)
        tensor([0.6835, 0.8563])
    """
    check_same_shape(student=student, teacher=teacher)
    if student.ndim != 2:
        raise ValueError(f'student and teacher must be rows of logits, shape (R, K), got {tuple(student.shape)}')
    check_not_negative('background_weight', background_weight)
    check_positive('temperature', temperature)
    student, teacher = full_precision(student, teacher.detach())
    student, target = student / temperature, torch.sigmoid(teacher / temperature)
    background = background_weight * (1 - target)
    return -(temperature**2) * (target * F.logsigmoid(student) + background * F.logsigmoid(-student)).sum(dim=1)


@MODELS.register_module()
class WeightedSoftTargetLoss(nn.Module):
    """:func:`weighted_soft_cross_entropy` with one weight for background and 1 for all else, averaged over rows.

    With ``mode='sigmoid'``, :func:`weighted_soft_binary_cross_entropy`.

    The paper mixes it with the hard loss, ``μ · hard + (1 - μ) · soft``, and does not give μ; the mixture belongs to
    the objective.

    Args:
        background_weight: The weight of the background column, at least 0; the paper's 1.5 by default. 1 is plain soft
            cross-entropy (row 'CLS' of the paper's Table 4, while 1.5 is 'CLS-W').
        temperature: The paper's T, above 0; the paper finds 1 best.
        mode: ``'softmax'`` where one class excludes the others, ``'sigmoid'`` where each class is decided on its own.
        standardize: Logit standardisation (Sun et al. 2024): before the softmax, both networks' logits are brought to mean 0
            and standard deviation 1 over classes; see :func:`kddense.losses.standardize_logits`. Its paper has the
            temperature 2.

    Raises:
        ValueError: If ``background_weight`` is negative, ``temperature`` is not above 0 or ``mode`` is neither of the two.

    Example:
        >>> teacher = torch.tensor([[0.0, 0.0, 2.0]])  # background last, as in mmdet
        >>> student = torch.tensor([[0.0, 0.0, 1.0]])
        >>> WeightedSoftTargetLoss()(student, teacher)
        tensor(0.9814)
    """

    def __init__(
        self,
        background_weight: float = 1.5,
        temperature: float = 1.0,
        mode: str = 'softmax',
        standardize: bool = False,
    ) -> None:
        super().__init__()
        check_not_negative('background_weight', background_weight)
        check_positive('temperature', temperature)
        check_choice('mode', mode, ('softmax', 'sigmoid'))
        check_standardize(standardize, mode)
        self.standardize = standardize
        self.background_weight = background_weight
        self.temperature = temperature
        self.mode = mode

    def forward(
        self, student: Tensor, teacher: Tensor, background_index: int = -1, num_sampled: float | None = None
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            student: Logits, shape ``(R, C)``.
            teacher: The teacher's logits for the same rows.
            background_index: The background's column: the last in mmdet, 0 in the paper. Sigmoid heads have none.
            num_sampled: What to divide the sum over rows by; the number of rows by default.

        Raises:
            ValueError: If ``background_index`` is not a column, or as :func:`weighted_soft_cross_entropy`.
        """
        if self.mode == 'sigmoid':
            per_row = weighted_soft_binary_cross_entropy(student, teacher, self.background_weight, self.temperature)
        else:
            per_row = self._softmax_rows(student, teacher, background_index)
        return per_row.sum() / max(len(student) if num_sampled is None else num_sampled, 1)

    def _softmax_rows(self, student: Tensor, teacher: Tensor, background_index: int) -> Tensor:
        columns = student.shape[-1]
        if not -columns <= background_index < columns:
            raise ValueError(f'background_index must name one of {columns} columns, got {background_index}')
        if self.standardize:
            student, teacher = standardize_logits(student), standardize_logits(teacher.detach())
        class_weight = torch.ones(columns, device=student.device)
        class_weight[background_index] = self.background_weight
        return weighted_soft_cross_entropy(student, teacher, class_weight, self.temperature)

    def extra_repr(self) -> str:
        return f'background_weight={self.background_weight}, temperature={self.temperature}, mode={self.mode!r}'

"""Attentive imitation and hints (Saputra et al., "Distilling Knowledge From a Deep Pose Regressor Network", ICCV 2019).

A regressor's teacher can be wrong, and its output hides nothing that its value does not say. It is therefore imitated
only as far as it is right: each sample by ``Φ = 1 - e / η``, with ``e`` the teacher's error on that sample and ``η`` the
range of its errors over the whole training set (:mod:`kddense.objectives.ail.teacher_error`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kddense.losses._checks import check_choice, check_not_negative, check_same_shape, full_precision
from kddense.losses._entries import counted, entry_errors, over_entries
from kddense.registry import MODELS


def sample_error(
    prediction: Tensor, target: Tensor, mask: Tensor | None = None, norm: str = 'l2', entries: str = 'sum'
) -> Tensor:
    """Error of each sample's prediction over the entries that count: the paper's ``‖p - y‖²``.

    Args:
        prediction: Shape ``(N, ...)``, of any floating dtype; computed in float32, or in float64 if either input is.
        target: Same shape. What it holds where ``mask`` is False does not matter, infinities included.
        mask: Which entries count, bool, same shape; all by default.
        norm: ``'l2'`` for squared, ``'l1'`` for absolute differences.
        entries: ``'sum'`` over a sample's entries, as the paper for its six numbers of a pose, or their ``'mean'``, for
            maps of which each image has another number of valid pixels.

    Returns:
        One value per sample, shape ``(N,)``; 0 for a sample of which no entry counts.

    Raises:
        ValueError: If the shapes differ, there is no dimension of samples, or an option is unknown.

    Example:
        >>> sample_error(torch.tensor([[0.3, 0.0], [0.1, 0.2]]), torch.zeros(2, 2))
        tensor([0.0900, 0.0500])
    """
    check_choice('entries', entries, ('sum', 'mean'))
    return over_entries(entry_errors(prediction, target, mask, norm), mask, entries)


def attention_weight(error: Tensor, error_range: float | Tensor, clamp: bool = False) -> Tensor:
    """The paper's attention, how far to trust the teacher: ``Φ = 1 - e / η``.

    The paper's η is ``max e - min e`` over the training set. So the worst sample's Φ is below 0 (by ``min e / η``), and
    so is that of any sample whose error is above η: one that the set did not hold, an augmented one, one above the
    percentile that η was taken at. It is then pushed *away* from the teacher, without a bound. ``clamp`` stops at 0.

    Where all errors are the same, η is 0 and tells no sample from another: Φ is then 1 everywhere.

    Args:
        error: The teacher's errors, of any shape, floating dtype and unit; no gradient flows into them.
        error_range: η, in the same unit, at least 0; a number, or a tensor with one element.
        clamp: Keep Φ in [0, 1].

    Returns:
        Weights of the shape of ``error``, in float32, or in float64 if ``error`` is.

    Raises:
        ValueError: If η is not one number that is finite and at least 0 (of a tensor only its size is checked: it may
            live on a GPU).

    Example:
        >>> attention_weight(torch.tensor([0.01, 0.09, 0.25]), 0.24)
        tensor([ 0.9583,  0.6250, -0.0417])
    """
    (error,) = full_precision(error.detach())
    span = _one_number(error_range, error)
    weight = torch.where(span > 0, 1 - error / torch.where(span > 0, span, 1), 1)
    return weight.clamp(0, 1) if clamp else weight


def attentive_imitation(
    student: Tensor, teacher: Tensor, attention: Tensor, mask: Tensor | None = None, entries: str = 'sum'
) -> Tensor:
    """Squared distance to the teacher, weighted by the attention: ``Φ · ‖s - t‖²`` for each sample.

    The imitation term of the paper's loss; on features, in the place of predictions, its attentive hint.

    Args:
        student: Predictions in the space that the student regresses (deltas, log depth), or features after their
            connector, shape ``(N, ...)``, of any floating dtype; computed in float32, or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        attention: Φ, see :func:`attention_weight`: one per sample, shape ``(N,)``, or one per entry, the shape of
            ``student``. No gradient flows into it.
        mask: Which entries count, bool, the shape of ``student``; all by default.
        entries: ``'sum'`` over a sample's entries, as the paper, or their ``'mean'`` over those that count.

    Returns:
        One value per sample, shape ``(N,)``, not averaged; 0 for a sample of which no entry counts.

    Raises:
        ValueError: If a shape does not fit or ``entries`` is unknown.

    Example:
        >>> student, teacher = torch.tensor([[0.2], [0.2]]), torch.tensor([[0.1], [0.5]])
        >>> attentive_imitation(student, teacher, torch.tensor([0.5, 1.0]))
        tensor([0.0050, 0.0900])
    """
    check_choice('entries', entries, ('sum', 'mean'))
    attention = attention.detach()
    if attention.ndim == 1 and student.ndim > 0 and len(attention) == len(student):
        return attention.to(student.device) * sample_error(student, teacher.detach(), mask, entries=entries)
    if attention.shape != student.shape:
        raise ValueError(
            f'attention must hold one weight per sample or per entry of {tuple(student.shape)}, '
            f'got shape {tuple(attention.shape)}'
        )
    return over_entries(attention * entry_errors(student, teacher.detach(), mask, 'l2'), mask, entries)


def attentive_regression(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    error_range: float | Tensor,
    alpha: float = 0.5,
    mask: Tensor | None = None,
    entries: str = 'sum',
    clamp: bool = False,
) -> Tensor:
    """The paper's whole loss: ``α ‖s - y‖² + (1 - α) Φ ‖s - t‖²``, with Φ from the teacher's error ``‖t - y‖²``.

    Args:
        student: Predictions, shape ``(N, ...)``, of any floating dtype; computed in float32, or in float64 if any input
            is.
        teacher: The teacher's, same shape. No gradient flows into it.
        target: The ground truth, same shape.
        error_range: η, see :func:`attention_weight`.
        alpha: Share of the ground truth, from 0 to 1. We do not know the paper's.
        mask: Which entries count, bool, same shape; all by default.
        entries: ``'sum'`` over a sample's entries, as the paper, or their ``'mean'``, in the teacher's error too.
        clamp: See :func:`attention_weight`.

    Returns:
        One value per sample, shape ``(N,)``; the paper averages them.

    Raises:
        ValueError: If the shapes differ or an option does not fit.

    Example:
        >>> student, teacher = torch.tensor([[0.2], [0.2]]), torch.tensor([[0.1], [0.5]])
        >>> attentive_regression(student, teacher, torch.zeros(2, 1), error_range=0.5)
        tensor([0.0249, 0.0425])
    """
    check_same_shape(student=student, teacher=teacher, target=target)
    _check_share(alpha)
    attention = attention_weight(sample_error(teacher, target, mask, entries=entries), error_range, clamp)
    own = sample_error(student, target, mask, entries=entries)
    return alpha * own + (1 - alpha) * attentive_imitation(student, teacher, attention, mask, entries)


@MODELS.register_module()
class AttentiveImitationLoss(nn.Module):
    """:func:`attentive_imitation`, averaged over samples, with Φ from the teacher's error.

    The imitation term alone: a detector or depth estimator has a loss to the ground truth of its own. For the paper's
    sum of both see :func:`attentive_regression`.

    Args:
        per: Whether Φ is one per ``'sample'`` or one per ``'entry'`` (box edge, pixel).
        entries: ``'sum'`` over a sample's entries, as the paper, or their ``'mean'`` over those that count.
        clamp: Keep Φ in [0, 1]. The paper does not; see :func:`attention_weight` for what happens then.

    Raises:
        ValueError: If an option is unknown.

    Example:
        >>> student, teacher = torch.tensor([[0.2], [0.2]]), torch.tensor([[0.1], [0.5]])
        >>> AttentiveImitationLoss()(student, teacher, torch.zeros(2, 1), error_range=0.5)
        tensor(0.0274)
    """

    def __init__(self, per: str = 'sample', entries: str = 'sum', clamp: bool = True) -> None:
        super().__init__()
        check_choice('per', per, ('sample', 'entry'))
        check_choice('entries', entries, ('sum', 'mean'))
        self.per = per
        self.entries = entries
        self.clamp = clamp

    def teacher_error(self, teacher: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the squared errors that Φ is made of: shape ``(N,)``, or that of ``teacher`` for ``per='entry'``."""
        if self.per == 'entry':
            return entry_errors(teacher.detach(), target, mask, 'l2')
        return sample_error(teacher.detach(), target, mask, entries=self.entries)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        target: Tensor,
        error_range: float | Tensor,
        error: Tensor | None = None,
        mask: Tensor | None = None,
        num_samples: float | None = None,
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            student: Shape ``(N, ...)``.
            teacher: Same shape.
            target: The ground truth, same shape; looked at only if ``error`` is not given.
            error_range: η.
            error: The teacher's errors in η's own measure, one per sample or per entry; :meth:`teacher_error` by default.
            mask: Which entries count; all by default.
            num_samples: What to divide by; the number of samples of which some entry counts by default.
        """
        if error is None:
            error = self.teacher_error(teacher, target, mask)
        attention = attention_weight(error, error_range, self.clamp)
        per_sample = attentive_imitation(student, teacher, attention, mask, self.entries)
        if num_samples is not None:
            return per_sample.sum() / max(num_samples, 1)
        return per_sample.sum() / counted(mask, student).count_nonzero().clamp(min=1)

    def extra_repr(self) -> str:
        return f'per={self.per!r}, entries={self.entries!r}, clamp={self.clamp}'


@MODELS.register_module()
class AttentiveHintLoss(nn.Module):
    """The attentive hint: ``Φ · ‖Ψ_s - Ψ_t‖²`` of features, averaged over samples.

    Args:
        entries: ``'mean'`` over a feature's elements, so that the weight does not depend on the size of a map, or their
            ``'sum'``, as the paper for the vector of a fully connected layer.
        clamp: Keep Φ in [0, 1]. The paper does not.

    Raises:
        ValueError: If ``entries`` is unknown.

    Example:
        >>> features = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[1.0, 2.0], [0.0, 2.0]])
        >>> AttentiveHintLoss()(*features, error=torch.tensor([0.25, 0.0]), error_range=0.5)
        tensor(1.1250)
    """

    def __init__(self, entries: str = 'mean', clamp: bool = True) -> None:
        super().__init__()
        check_choice('entries', entries, ('sum', 'mean'))
        self.entries = entries
        self.clamp = clamp

    def forward(self, student: Tensor, teacher: Tensor, error: Tensor, error_range: float | Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            student: Features after their connector, shape ``(N, ...)``.
            teacher: Same shape.
            error: The teacher's error on each sample, shape ``(N,)``.
            error_range: η.
        """
        attention = attention_weight(error, error_range, self.clamp)
        per_sample = attentive_imitation(student, teacher, attention, entries=self.entries)
        return per_sample.sum() / max(len(per_sample), 1)

    def extra_repr(self) -> str:
        return f'entries={self.entries!r}, clamp={self.clamp}'


def _one_number(error_range: float | Tensor, like: Tensor) -> Tensor:
    if not isinstance(error_range, Tensor):
        check_not_negative('error_range', error_range)
        return like.new_tensor(error_range)
    if error_range.numel() != 1:
        raise ValueError(f'error_range must be one number, got shape {tuple(error_range.shape)}')
    return error_range.detach().reshape(()).to(like)


def _check_share(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ValueError(f'alpha must lie in [0, 1], got {alpha}')

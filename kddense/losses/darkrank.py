"""DarkRank (Chen, Wang and Zhang, "Accelerating Deep Metric Learning via Cross Sample Similarities Transfer", AAAI 2018)."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from torch import Tensor, nn

from kddense.losses._checks import check_choice, check_positive, check_same_shape, full_precision
from kddense.losses._vectors import inner_products, unit_vectors
from kddense.losses.rkd import check_embeddings
from kddense.registry import MODELS

MOST_RANKED = 6  # 720 permutations


def similarity_scores(embeddings: Tensor, scale: float = 3.5, power: float = 2.0) -> Tensor:
    """How near each sample is to each other, ``-(scale · ‖q - x‖²)^power`` of embeddings of length 1.

    In the paper's letters, ``-α ‖q - x‖^β`` with α = scale^power and β = 2 · power.

    Args:
        embeddings: Shape ``(N, C)``.
        scale: 3.5 in the authors' code.
        power: 2 in the authors' code.

    Returns:
        One row for each query, of all other samples in their order: shape ``(N, N - 1)``.
    """
    check_positive('scale', scale)
    check_positive('power', power)
    (embeddings,) = full_precision(embeddings)
    count = len(embeddings)
    scores = -_power(scale * _squared_distances(unit_vectors(embeddings)), power)
    others = ~torch.eye(count, dtype=torch.bool, device=scores.device)
    return scores[others].view(count, max(count - 1, 0))


def hard_rank_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The student's negative log-likelihood of the teacher's ranking (ListMLE), averaged over queries.

    ``-log P(π_T)`` with Plackett and Luce's ``P(π) = Π_i exp(s_π(i)) / Σ_{k ≥ i} exp(s_π(k))``, in log space; the number of
    permutations does not matter.

    Args:
        student: Scores, one row of candidates for each query, shape ``(Q, n)``, of any floating dtype; computed in float32,
            or in float64 if either is.
        teacher: The teacher's for the same. No gradient flows into it.

    Returns:
        A scalar; a 0 that back-propagates if there is no query, or fewer than two candidates.

    Raises:
        ValueError: If these are not rows of one shape.

    Example:
        >>> hard_rank_loss(torch.tensor([[-2.0, -1.0, -3.0]]), torch.tensor([[-1.0, -2.0, -4.0]]))
        tensor(1.5345)
    """
    _check_scores(student, teacher)
    if len(student) == 0 or student.shape[1] < 2:
        return student.sum() * 0
    own, other = full_precision(student, teacher.detach())
    ranked = own.gather(1, other.argsort(dim=1, descending=True, stable=True))
    return -_log_probability(ranked).mean()


def soft_rank_loss(student: Tensor, teacher: Tensor, length: int = 4) -> Tensor:
    """KL divergence of the two networks' probabilities of all rankings of the teacher's best candidates, by queries.

    ``Σ_π P_T(π) · log(P_T(π) / P_S(π))`` over the ``length!`` rankings. The authors' code has the cross-entropy, which is
    this plus the teacher's entropy: the gradients are the same, and this is 0 where both agree.

    Args:
        student: Scores, one row of candidates for each query, shape ``(Q, n)``, of any floating dtype; computed in float32,
            or in float64 if either is.
        teacher: The teacher's for the same. No gradient flows into it.
        length: How many candidates of the teacher's highest scores are ranked, 2 to 6; 4 in the authors' code.

    Returns:
        A scalar; a 0 that back-propagates if there is no query, or fewer than two candidates.

    Raises:
        ValueError: If these are not rows of one shape, or ``length`` is out of its range.

    Example:
        >>> soft_rank_loss(torch.tensor([[-2.0, -1.0, -3.0]]), torch.tensor([[-1.0, -2.0, -4.0]]))
        tensor(0.5297)
    """
    _check_scores(student, teacher)
    _check_length(length)
    if len(student) == 0 or student.shape[1] < 2:
        return student.sum() * 0
    own, other = full_precision(student, teacher.detach())
    best, index = other.topk(min(length, other.shape[1]), dim=1)
    orders = torch.tensor(list(itertools.permutations(range(best.shape[1]))), device=own.device)
    ours, theirs = (_log_probability(scores[:, orders]) for scores in (own.gather(1, index), best))
    return (theirs.exp() * (theirs - ours)).sum(dim=1).mean()


def _power(values: Tensor, power: float) -> Tensor:
    """Raise to a power; at 0, where a root has no slope, without gradient."""
    at_zero = values == 0  # NaN is not, and shows
    return torch.where(
        at_zero, torch.zeros_like(values), torch.where(at_zero, torch.ones_like(values), values) ** power
    )


def _squared_distances(embeddings: Tensor) -> Tensor:
    products = inner_products(embeddings, embeddings)  # of length 1, or 0: nothing cancels that matters
    lengths = products.diagonal()
    return (lengths[:, None] + lengths - 2 * products).clamp(min=0)


def _log_probability(ranked: Tensor) -> Tensor:
    """Return the log-probability of drawing candidates in the order of the last dimension."""
    rest = ranked.flip(-1).logcumsumexp(dim=-1).flip(-1)
    return (ranked - rest).sum(dim=-1)


def _check_scores(student: Tensor, teacher: Tensor) -> None:
    check_same_shape(student=student, teacher=teacher)
    if student.ndim != 2:
        raise ValueError(f'student and teacher must be rows of scores, shape (Q, n), got {tuple(student.shape)}')


def _check_length(length: int) -> None:
    if not 2 <= length <= MOST_RANKED:
        raise ValueError(f'length must be 2 to {MOST_RANKED}, as {length} candidates have {length}! rankings')


@MODELS.register_module()
class DarkRankLoss(nn.Module):
    """How each sample ranks all others by similarity, compared with the teacher's ranking, averaged over queries.

    Every sample is a query in its turn; the authors' code, whose batches are pairs, takes the first half of them.

    Args:
        mode: ``'soft'`` (:func:`soft_rank_loss`), as in the authors' commands, or ``'hard'`` (:func:`hard_rank_loss`),
            which ranks all candidates.
        scale: See :func:`similarity_scores`.
        power: See :func:`similarity_scores`.
        length: How many candidates the soft form ranks, 2 to 6.

    Raises:
        ValueError: If an argument is not one of these.
    """

    def __init__(
        self, mode: Literal['soft', 'hard'] = 'soft', scale: float = 3.5, power: float = 2.0, length: int = 4
    ) -> None:
        super().__init__()
        check_choice('mode', mode, ('soft', 'hard'))
        check_positive('scale', scale)
        check_positive('power', power)
        _check_length(length)
        self.mode = mode
        self.scale = scale
        self.power = power
        self.length = length

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of two embeddings of the same samples, ``(N, C)``, a scalar."""
        check_embeddings(student, teacher)
        own, other = (similarity_scores(one, self.scale, self.power) for one in (student, teacher.detach()))
        return hard_rank_loss(own, other) if self.mode == 'hard' else soft_rank_loss(own, other, self.length)

    def extra_repr(self) -> str:
        return f'mode={self.mode!r}, scale={self.scale}, power={self.power}, length={self.length}'

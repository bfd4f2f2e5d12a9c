"""Rankings: the worked example, probabilities by loops, log space, and batches that are too small."""

import itertools
import math

import numpy as np
import pytest
import torch

from kddense.losses import DarkRankLoss, hard_rank_loss, similarity_scores, soft_rank_loss

from ..helpers import loss_checks as checks

TEACHER = torch.tensor([[-1.0, -2, -4]], dtype=torch.float64)
STUDENT = torch.tensor([[-2.0, -1, -3]], dtype=torch.float64)


def probability(scores, order):
    """Return Plackett and Luce's probability of drawing candidates in an order, by its formula."""
    drawn = [math.exp(scores[index]) for index in order]
    return math.prod(one / sum(drawn[place:]) for place, one in enumerate(drawn))


def test_the_worked_example():
    assert hard_rank_loss(STUDENT, TEACHER).item() == pytest.approx(1.534534, rel=1e-6)
    assert soft_rank_loss(STUDENT, TEACHER).item() == pytest.approx(0.529660, rel=1e-5)
    theirs = [probability(TEACHER[0].tolist(), order) for order in itertools.permutations(range(3))]
    assert theirs[0] == pytest.approx(0.621301, rel=1e-5)
    entropy = -sum(p * math.log(p) for p in theirs)
    assert soft_rank_loss(STUDENT, TEACHER).item() + entropy == pytest.approx(1.571202, rel=1e-5)


def test_agrees_with_loops():
    student, teacher = checks.random_tensor(3, 6), checks.random_tensor(3, 6, seed=1)
    hard, soft = 0.0, 0.0
    for own, other in zip(student.numpy(), teacher.numpy(), strict=True):
        ranking = np.argsort(-other)
        hard -= math.log(probability(own, ranking)) / 3
        best = ranking[:4]
        for order in itertools.permutations(best):
            ours, theirs = (
                probability(scores[best], [list(best).index(one) for one in order]) for scores in (own, other)
            )
            soft += theirs * math.log(theirs / ours) / 3
    assert hard_rank_loss(student, teacher).item() == pytest.approx(hard)
    assert soft_rank_loss(student, teacher).item() == pytest.approx(soft)


def test_scores_are_of_all_other_samples():
    embeddings = torch.tensor([[2.0, 0], [0, 1], [-3, 0]], dtype=torch.float64)
    expected = -torch.tensor([[7.0**2, 14**2], [7**2, 7**2], [14**2, 7**2]], dtype=torch.float64)
    torch.testing.assert_close(similarity_scores(embeddings), expected)


@pytest.mark.parametrize('mode', ['soft', 'hard'])
def test_gradient_and_precision(mode):
    student, teacher = checks.random_tensor(6, 3), checks.random_tensor(6, 2, seed=1)
    checks.assert_exact_gradient(DarkRankLoss(mode), student, teacher)
    checks.assert_float32_inside(DarkRankLoss(mode), student, teacher)


def test_it_is_computed_in_log_space():
    """Probabilities of such scores are 0 in float32."""
    student = torch.tensor([[0.0, -500, -1000, -2000]], requires_grad=True)
    for loss in (hard_rank_loss, soft_rank_loss):
        value = loss(student, student.detach().flip(1))
        value.backward()
        assert value.isfinite()
        assert value > 1000
        assert student.grad.isfinite().all()


def test_many_candidates_are_ranked_without_their_permutations():
    student = checks.random_tensor(64, 1024).requires_grad_()
    DarkRankLoss('hard')(student, checks.random_tensor(64, 512, seed=1)).backward()
    assert student.grad.isfinite().all()
    assert student.grad.any()


@pytest.mark.parametrize('mode', ['soft', 'hard'])
def test_of_twins(mode):
    teacher = checks.random_tensor(5, 3)
    value = DarkRankLoss(mode)(2 * teacher, teacher).item()
    assert value == pytest.approx(0, abs=1e-9) if mode == 'soft' else value > 0


@pytest.mark.parametrize('mode', ['soft', 'hard'])
@pytest.mark.parametrize('count', [0, 1, 2])
def test_fewer_than_two_candidates_have_no_ranking(mode, count):
    checks.assert_zero_that_backpropagates(DarkRankLoss(mode), torch.rand(count, 3), torch.rand(count, 2))


@pytest.mark.parametrize('samples', [torch.ones(4, 3), torch.eye(3)[[0, 0, 1, 1]]], ids=['nearly', 'exactly'])
def test_samples_that_coincide_are_safe(samples):
    student = samples.requires_grad_()
    for mode in ('soft', 'hard'):
        DarkRankLoss(mode, power=0.5)(student, torch.zeros(4, 3)).backward()
    assert student.grad.isfinite().all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'embeddings \(N, C\) of as many samples, got \(3, 1\), \(2, 2\)'):
        DarkRankLoss()(torch.ones(3, 1), torch.ones(2, 2))
    with pytest.raises(ValueError, match=r'rows of scores, shape \(Q, n\), got \(3,\)'):
        hard_rank_loss(STUDENT[0], TEACHER[0])
    for options, message in (
        (dict(mode='listnet'), "mode must be one of 'soft', 'hard'"),
        (dict(scale=0), 'scale must be above 0'),
        (dict(power=-1), 'power must be above 0'),
        (dict(length=9), 'length must be 2 to 6, as 9 candidates have 9! rankings'),
    ):
        with pytest.raises(ValueError, match=message):
            DarkRankLoss(**options)

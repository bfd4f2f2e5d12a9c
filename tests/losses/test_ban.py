"""BAN: the worked example, references by hand, permutations that keep the best guess, edges."""

from __future__ import annotations

import pytest
import torch

from kddense.losses import BANLoss, confidence_weighted, permuted_divergence, permuted_targets

P = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]], dtype=torch.float64)
Q = torch.tensor([[0.6, 0.3, 0.1], [0.4, 0.4, 0.2]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])
ENTROPY = float(-(P * P.log()).sum(1).mean())
SWAP = torch.tensor([[0.0, 0.9, 0.1]] * 2, dtype=torch.float64)
KEEP = torch.tensor([[0.0, 0.1, 0.9]] * 2, dtype=torch.float64)


def test_the_worked_example():
    """Cross-entropies of METHODS' EX 18; the divergences lack the teacher's entropy, which no student can change."""
    assert float(BANLoss()(Q.log(), P.log(), None)) + ENTROPY == pytest.approx(0.941776, abs=1e-6)
    assert float(BANLoss('cwtm')(Q.log(), P.log(), LABELS)) == pytest.approx(0.679769, abs=1e-6)
    assert float(BANLoss('dkpp')(Q.log(), P.log(), None, SWAP)) + ENTROPY == pytest.approx(1.031364, abs=1e-6)
    assert float(BANLoss('dkpp')(Q.log(), P.log(), None, KEEP)) + ENTROPY == pytest.approx(0.941776, abs=1e-6)


def test_the_best_guess_stays_and_the_rest_is_shuffled():
    torch.manual_seed(0)
    teacher = torch.randn(500, 6).softmax(1)
    found = permuted_targets(teacher, torch.rand(500, 6))
    assert torch.equal(found.argmax(1), teacher.argmax(1))
    assert torch.equal(found.max(1).values, teacher.max(1).values)
    torch.testing.assert_close(found.sort(1).values, teacher.sort(1).values)
    assert (found != teacher).any(1).float().mean() > 0.9
    maps = torch.randn(2, 6, 3, 4).softmax(1)
    numbers = torch.rand(2, 6, 3, 4)
    rows = permuted_targets(*(one.movedim(1, -1).reshape(-1, 6) for one in (maps, numbers)))
    torch.testing.assert_close(permuted_targets(maps, numbers).movedim(1, -1).reshape(-1, 6), rows)


def test_confidence_by_a_loop():
    torch.manual_seed(0)
    student, teacher, labels = torch.randn(7, 4), 2 * torch.randn(7, 4), torch.tensor([0, 1, 2, 3, -1, 0, 4])
    total = weights = 0.0
    for s, t, y in zip(student, teacher, labels.tolist(), strict=True):
        if y >= 0:
            p = t.sigmoid().max()
            yes = torch.zeros(5)
            yes[y] = 1
            own = -(yes[:4] * s.sigmoid().log() + (1 - yes[:4]) * (1 - s.sigmoid()).log()).sum()
            total, weights = total + float(max(p, 1 - p) * own), weights + float(max(p, 1 - p))
    found = confidence_weighted(student, teacher, labels, 'sigmoid')
    assert float(found) == pytest.approx(total / weights, rel=1e-5)


@pytest.mark.parametrize('classes', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('mode', ['soft', 'cwtm', 'dkpp'])
def test_gradients_edges_and_precision(mode, classes):
    torch.manual_seed(0)
    loss, labels, numbers = BANLoss(mode, classes), torch.tensor([1, 0, -1]), torch.rand(3, 4).double()
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, labels, numbers), student)
    loss(student, teacher, labels, numbers).backward()
    assert teacher.grad is None
    half = loss(student.bfloat16(), teacher.bfloat16(), labels, numbers.bfloat16())
    assert half.dtype == torch.float32
    empty = torch.zeros(0, 4, requires_grad=True)
    loss(empty, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, 4)).backward()
    assert empty.grad.shape == (0, 4)
    bad = student.detach().clone()
    bad[0, 0] = float('nan')
    assert torch.isnan(loss(bad, teacher, labels, numbers)), 'a NaN shows'
    ruled_out = torch.tensor([[0.0, 1.0, -float('inf'), 0.0]] * 3)
    assert torch.isfinite(loss(student, ruled_out, labels, numbers))


def test_bad_options():
    with pytest.raises(ValueError, match='mode must be one of'):
        BANLoss('dark')
    with pytest.raises(ValueError, match='one shape'):
        permuted_divergence(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 2))

"""Phuong and Lampert's theorems hold for linear students that learn by our own losses: closed form against training."""

from __future__ import annotations

import math

import pytest
import torch

from kddense.evaluation.linear_theory import angles, disagreement, learnt_weight, reachable_share, transfer_risk_bound
from kddense.losses import sigmoid_soft_target_divergence


def trained(teacher, data):
    """Train a linear student from 0 with soft targets, until nothing changes."""
    weight = torch.zeros(len(teacher), dtype=torch.float64, requires_grad=True)
    options = dict(tolerance_grad=1e-13, tolerance_change=0, history_size=50, line_search_fn='strong_wolfe')
    optimizer = torch.optim.LBFGS([weight], max_iter=500, **options)

    def step():
        optimizer.zero_grad()
        loss = sigmoid_soft_target_divergence((data @ weight)[:, None], (data @ teacher)[:, None])
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(step)
    return weight.detach()


def test_the_worked_example():
    """METHODS' EX 16: two samples in three dimensions reach (1, 2, 0) of (1, 2, 3)."""
    data, teacher = torch.tensor([[1.0, 0, 0], [1, 1, 0]]).double(), torch.tensor([1.0, 2, 3]).double()
    assert learnt_weight(teacher, data).tolist() == pytest.approx([1, 2, 0], abs=1e-12)
    assert reachable_share(teacher, data) == pytest.approx(math.sqrt(5 / 14))
    torch.testing.assert_close(trained(teacher, data), learnt_weight(teacher, data), rtol=0, atol=1e-6)


@pytest.mark.parametrize('samples', [1, 3, 5, 8])
def test_fewer_samples_than_dimensions_give_the_projection_and_as_many_give_all(samples):
    torch.manual_seed(samples)
    data, teacher = torch.randn(samples, 5).double(), torch.randn(5).double()
    expected = learnt_weight(teacher, data)
    torch.testing.assert_close(trained(teacher, data), expected, rtol=0, atol=1e-6)
    if samples >= 5:
        torch.testing.assert_close(expected, teacher, rtol=0, atol=1e-10)
        assert reachable_share(teacher, data) == pytest.approx(1)
    else:
        assert reachable_share(teacher, data) < 1


def test_samples_that_repeat_add_nothing():
    data = torch.tensor([[1.0, 2, 0, 1], [0, 1, 1, 0]]).double()
    teacher = torch.tensor([1.0, -1, 2, 3]).double()
    torch.testing.assert_close(
        learnt_weight(teacher, torch.cat([data, 2 * data, data.sum(0, True)])), learnt_weight(teacher, data)
    )


def test_each_new_direction_lowers_the_risk():
    """Strong monotonicity, on average over draws."""
    torch.manual_seed(0)
    test, risks = torch.randn(4000, 8).double(), []
    for samples in (1, 2, 4, 6, 8):
        found = []
        for _ in range(40):
            teacher, data = torch.randn(8).double(), torch.randn(samples, 8).double()
            found.append(disagreement(teacher, learnt_weight(teacher, data), test))
        risks.append(sum(found) / len(found))
    assert risks == sorted(risks, reverse=True)
    assert risks[-1] == 0


def test_the_risk_is_the_angle_by_pi_for_isotropic_data():
    torch.manual_seed(0)
    data = torch.randn(200_000, 2).double()
    one, other = torch.tensor([1.0, 1.0]).double() / math.sqrt(2), torch.tensor([1.0, 0.0]).double()
    assert disagreement(one, other, data) == pytest.approx(0.25, abs=0.005)


def test_angles_by_hand():
    data = torch.tensor([[1.0, 0], [-2, 0], [0, 3], [1, 1]])
    found = angles(torch.tensor([2.0, 0.0]), data)
    assert found.tolist() == pytest.approx([0, 0, math.pi / 2, math.pi / 4], abs=1e-3)


def test_the_bound_holds_and_falls():
    """Clustered along the teacher, few samples suffice; spread out, the bound says little."""
    torch.manual_seed(0)
    teacher = torch.tensor([1.0, 0, 0, 0]).double()
    spread, apart = torch.randn(3000, 4).double(), torch.randn(3000, 4).double()
    apart[:, 0] = 20 * apart[:, 0].sign()
    bounds = [transfer_risk_bound(angles(teacher, apart), n) for n in (1, 4, 16)]
    assert bounds == sorted(bounds, reverse=True)
    assert transfer_risk_bound(angles(teacher, spread), 16) > bounds[-1]
    for data, samples in ((apart, 1), (apart, 2), (spread, 2)):
        risks = []
        for _ in range(100):
            chosen = data[torch.randperm(len(data))[:samples]]
            risks.append(disagreement(teacher, learnt_weight(teacher, chosen), data))
        assert sum(risks) / 100 <= transfer_risk_bound(angles(teacher, data), samples)

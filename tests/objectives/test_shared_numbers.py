"""Random numbers on which all processes agree: by the run's seed and iteration, dealt out as samplers deal images."""

from __future__ import annotations

import pytest
import torch
from mmengine.logging import MessageHub

from kddense.objectives import _shared_numbers
from kddense.objectives._shared_numbers import SharedNumbers

LIKE = torch.zeros(1)


def step(seed=3, iteration=7):
    MessageHub.get_current_instance().update_info_dict(dict(seed=seed, iter=iteration))
    return SharedNumbers()


@pytest.mark.parametrize('processes', [2, 4])
def test_processes_share_the_numbers_of_one(processes, monkeypatch):
    whole = step().draw(8, LIKE)
    for rank in range(processes):
        monkeypatch.setattr(_shared_numbers, 'get_dist_info', lambda rank=rank: (rank, processes))
        assert torch.equal(step().draw(8 // processes, LIKE), whole[rank::processes])


def test_samples_of_many_numbers_are_dealt_out_whole(monkeypatch):
    whole = step().draw((4, 1, 2, 3), LIKE)
    for rank in range(2):
        monkeypatch.setattr(_shared_numbers, 'get_dist_info', lambda rank=rank: (rank, 2))
        assert torch.equal(step().draw((2, 1, 2, 3), LIKE), whole[rank::2])


def test_a_step_that_is_taken_again_draws_them_again():
    numbers = step()
    first, second = numbers.draw(4, LIKE), numbers.draw(4, LIKE)
    again = step()
    assert torch.equal(again.draw(4, LIKE), first)
    assert torch.equal(again.draw(4, LIKE), second)
    assert not torch.equal(first, second)
    assert not torch.equal(step(iteration=8).draw(4, LIKE), first)
    assert not torch.equal(step(seed=4).draw(4, LIKE), first)


def test_no_stream_moves():
    before = torch.get_rng_state()
    numbers = step().draw(100, LIKE.double())
    assert torch.equal(torch.get_rng_state(), before)
    assert numbers.dtype == torch.float64
    assert 0 <= numbers.min() < 0.1
    assert 0.9 < numbers.max() < 1


def test_outside_a_run_they_are_pytorchs():
    torch.manual_seed(0)
    numbers = SharedNumbers().draw(4, LIKE)
    torch.manual_seed(0)
    assert torch.equal(numbers, torch.rand(4))

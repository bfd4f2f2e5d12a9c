"""Queues by class: the latest vectors stay, only written ones are drawn, state, two processes."""

import copy

import pytest
import torch
from torch import nn

from kddense import ClassQueue

from ..helpers.two_processes import in_two_processes


def row(value, count=1):
    return torch.full((count, 2), float(value))


def test_the_latest_vectors_of_each_class_stay():
    queue = ClassQueue(3, 2, 2)
    assert queue.sample(5).shape == (0, 2)
    for label, value in ((0, 1), (2, 2), (0, 3), (0, 4)):
        queue.add(torch.tensor([label]), row(value))
    assert sorted(queue.sample(5)[:, 0].tolist()) == [2, 3, 4]
    assert queue.counts.tolist() == [3, 0, 1]
    queue.add(torch.zeros(5, dtype=torch.long), torch.arange(10.0).view(5, 2))
    assert sorted(queue.sample(5)[:, 0].tolist()) == [2, 6, 8]


def test_it_grows_with_what_is_added():
    queue = ClassQueue(2, 1000, 2)
    assert queue.vectors.shape == (2, 0, 2)
    queue.add(torch.tensor([1, 1, 0]), row(1, 3))
    assert queue.vectors.shape == (2, 2, 2)
    queue.add(torch.ones(999, dtype=torch.long), row(2, 999))
    assert queue.vectors.shape == (2, 1000, 2)


def test_none_is_drawn_twice():
    queue = ClassQueue(1, 20, 2)
    queue.add(torch.zeros(20, dtype=torch.long), torch.arange(40.0).view(20, 2))
    drawn = queue.sample(15)[:, 0].tolist()
    assert len(set(drawn)) == 15
    assert drawn != queue.sample(15)[:, 0].tolist()


def test_it_is_no_part_of_what_is_trained_and_follows_to():
    queue = ClassQueue(1, 2, 2)
    assert not list(queue.parameters())
    assert not list(queue.buffers())
    assert copy.deepcopy(nn.ModuleList([queue]))[0] is queue
    queue.add(torch.tensor([0]), row(1))
    queue.to(torch.float64)
    assert (queue.vectors.dtype, queue.counts.dtype) == (torch.float64, torch.int64)


def test_its_state_is_restored():
    queue = ClassQueue(2, 3, 2)
    queue.add(torch.tensor([0, 0, 1, 0, 0]), torch.arange(10.0).view(5, 2))
    state = queue.state_dict()
    other = ClassQueue(2, 3, 2)
    other.load_state_dict(state)
    for one in (queue, other):
        one.add(torch.tensor([0]), row(9))
    assert torch.equal(queue.vectors, other.vectors)
    assert not torch.equal(state['vectors'], queue.vectors), 'what was saved stays as it was'
    with pytest.raises(
        ValueError, match='holds queues of 2 classes, 3 vectors and 2 channels, and here are 4, at most 3'
    ):
        ClassQueue(4, 3, 2).load_state_dict(state)


@pytest.mark.parametrize('arguments', [dict(classes=0), dict(size=0), dict(dim=0)])
def test_bad_sizes_are_refused(arguments):
    with pytest.raises(ValueError, match='must be at least 1, got 0'):
        ClassQueue(**dict(dict(classes=1, size=1, dim=1), **arguments))


def fill(rank):
    queue = ClassQueue(2, 4, 2)
    queue.add(torch.tensor([rank]), row(rank))
    queue.add(torch.tensor([0] * rank, dtype=torch.long), row(5, rank))
    return queue.vectors, queue.counts


def test_all_processes_hold_the_same(tmp_path):
    first, second = in_two_processes(fill, tmp_path)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert first[1].tolist() == [2, 1]

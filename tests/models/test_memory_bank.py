"""Memory banks: values, ids, state, and one bank over several processes."""

import copy

import pytest
import torch
from torch import nn

from kddense import MemoryBank
from kddense.configs import training_set_size

from ..helpers.two_processes import in_two_processes


def test_rows_are_of_length_one_and_of_their_seed():
    state = torch.get_rng_state()
    bank = MemoryBank(8, 5)
    assert torch.equal(torch.get_rng_state(), state), 'no number of the global stream is drawn'
    torch.testing.assert_close(bank.vectors.norm(dim=1), torch.ones(5))
    assert torch.equal(bank.vectors, MemoryBank(8, 5).vectors)
    assert not torch.equal(bank.vectors, MemoryBank(8, 5, seed=1).vectors)


def test_an_update_moves_the_rows_of_its_ids_alone():
    bank = MemoryBank(2, 3, momentum=0.5)
    bank.index(['x', 7, 'y'])
    before = bank.vectors.clone()
    new = torch.tensor([[0.0, 1.0]], requires_grad=True)
    bank.update([7], new)
    expected = 0.5 * before[1] + 0.5 * new[0].detach()
    torch.testing.assert_close(bank.vectors[1], expected / expected.norm())
    assert torch.equal(bank.vectors[[0, 2]], before[[0, 2]])
    assert not bank.vectors.requires_grad
    torch.testing.assert_close(bank([7]), bank.vectors[1:2])


def test_a_momentum_of_zero_forgets_and_of_one_never_learns():
    for momentum in (0, 1):
        bank = MemoryBank(2, 1, momentum=momentum)
        before = bank(['a'])
        bank.update(['a'], torch.tensor([[3.0, 4.0]]))
        torch.testing.assert_close(bank(['a']), before if momentum else torch.tensor([[0.6, 0.8]]))


def test_of_an_id_that_comes_twice_the_last_value_counts():
    bank = MemoryBank(2, 1, momentum=0)
    bank.update(['a', 'a'], torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert bank.vectors.tolist() == [[0, 1]]


def test_an_update_leaves_what_a_graph_still_needs():
    bank = MemoryBank(2, 3)
    x = torch.ones(1, 2, requires_grad=True)
    loss = (x @ bank.vectors[[0, 2]].T).square().sum() + (x @ bank([0]).T).square().sum()
    expected = torch.autograd.grad(loss, x, retain_graph=True)[0]
    bank.update([0], x)
    loss.backward()
    assert torch.equal(x.grad, expected)


def test_rows_have_classes():
    bank = MemoryBank(2, 3)
    bank.update(['a', 'b'], torch.eye(2), torch.tensor([4, 0]))
    bank.update(['c', 'b'], torch.eye(2))
    assert bank.labels.tolist() == [4, -1, -1]
    other = MemoryBank(2)
    other.load_state_dict(bank.state_dict())
    assert torch.equal(other.labels, bank.labels)


def test_it_is_no_part_of_what_is_trained():
    bank = MemoryBank(2, 3)
    assert not list(bank.parameters())
    assert not list(bank.buffers())
    assert copy.deepcopy(nn.ModuleList([bank]))[0] is bank


def test_it_follows_to():
    bank = MemoryBank(2, 3)
    bank.update([5], torch.ones(1, 2))
    bank.to(torch.float64)
    assert (bank.vectors.dtype, bank.ids.dtype) == (torch.float64, torch.int64)
    bank.to('meta')
    assert bank.vectors.device.type == 'meta'


@pytest.mark.parametrize('size', [None, 3])
def test_its_state_is_restored(size):
    bank = MemoryBank(2, 3)
    bank.update(['a', 9], torch.eye(2))
    state = bank.state_dict()
    other = MemoryBank(2, size, seed=4)
    other.load_state_dict(state)
    assert torch.equal(other.vectors, bank.vectors)
    for one in (bank, other):
        one.update([9, 'new'], torch.ones(2, 2))
    assert torch.equal(other.vectors, bank.vectors)
    assert torch.equal(other.ids, bank.ids)
    assert not torch.equal(state['vectors'], bank.vectors), 'what was saved stays as it was'


def test_a_checkpoint_of_another_data_set_is_refused():
    bank = MemoryBank(2, 3)
    with pytest.raises(
        ValueError, match='holds 4 rows and the training set 3 images|holds 3 rows and the training set 4'
    ):
        bank.load_state_dict(MemoryBank(2, 4).state_dict())
    with pytest.raises(ValueError, match='the memory bank holds 3 rows and the training set 5 images: resume with'):
        bank.allocate(5)
    bank.allocate(3)


@pytest.mark.parametrize(
    'use',
    [lambda bank: bank(['a']), lambda bank: bank.update(['a'], torch.ones(1, 2)), lambda bank: bank.allocate(None)],
)
def test_one_without_a_size_says_so(use):
    with pytest.raises(ValueError, match='a memory bank without a data-set length'):
        use(MemoryBank(2))


def test_more_ids_than_rows_are_an_error():
    bank = MemoryBank(2, 2)
    bank.index([1, 2])
    with pytest.raises(ValueError, match='the memory bank is full: it has 2 rows'):
        bank.index([3])


@pytest.mark.parametrize('arguments', [dict(dim=0), dict(dim=2, size=0), dict(dim=2, momentum=1.5)])
def test_bad_sizes_are_refused(arguments):
    with pytest.raises(ValueError, match=r'must be (at least 1|between 0 and 1)'):
        MemoryBank(**arguments)


def share_of(rank):
    """Update a bank with unequal shares of four values; returns its state."""
    bank = MemoryBank(3, 6)
    values = torch.arange(12.0).view(4, 3)
    mine = slice(0, 1) if rank == 0 else slice(1, 4)
    bank.update(['a', 'b', 'c', 'a'][mine], values[mine])
    bank.update([f'only {rank}'], values[rank : rank + 1])
    return bank.state_dict()


def test_two_processes_hold_the_bank_of_one(tmp_path):
    one = MemoryBank(3, 6)
    values = torch.arange(12.0).view(4, 3)
    one.update(['a', 'b', 'c', 'a'], values)
    one.update(['only 0', 'only 1'], values[:2])
    for state in in_two_processes(share_of, tmp_path):
        assert torch.equal(state['vectors'], one.vectors)
        assert torch.equal(state['ids'], one.ids)


def test_the_size_of_the_training_set_is_that_of_the_config(detector, segmentor):
    assert training_set_size(detector.plain().pretty_text) == 8
    config = segmentor.plain()
    config.train_dataloader.dataset = dict(type='RepeatDataset', times=3, dataset=config.train_dataloader.dataset)
    assert training_set_size(config.pretty_text) == 24
    assert training_set_size(None) is None
    assert training_set_size('train_dataloader = None') is None

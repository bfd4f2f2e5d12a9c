"""The random-number streams: kept, put back, and forked."""

import random

import numpy as np
import torch

from kddense.random_state import forked_random_state, get_random_state, set_random_state


def draw():
    return random.random(), float(np.random.normal()), float(torch.rand(1))


def test_every_stream_goes_on_from_where_it_was():
    np.random.normal()  # numpy keeps the second of a pair of normal numbers
    state = get_random_state()
    expected = [draw() for _ in range(3)]
    set_random_state(state)
    assert [draw() for _ in range(3)] == expected


def test_a_fork_leaves_no_trace_even_if_it_fails():
    state = get_random_state()
    expected = draw()
    set_random_state(state)
    try:
        with forked_random_state():
            draw()
            raise RuntimeError
    except RuntimeError:
        pass
    assert draw() == expected


def test_a_checkpoint_holds_the_states_as_data(tmp_path):
    torch.save(get_random_state(), tmp_path / 'state.pth')
    expected = draw()
    set_random_state(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert draw() == expected


def test_each_process_keeps_its_own_gpu_alone(monkeypatch):
    """A run saved beside eight GPUs may go on where only one can be seen."""
    put = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_rng_state', lambda: torch.tensor([7]))
    monkeypatch.setattr(torch.cuda, 'set_rng_state', put.append)
    state = get_random_state()
    assert state['cuda'] == [torch.tensor([7])]
    set_random_state(state)
    assert put == [torch.tensor([7])]

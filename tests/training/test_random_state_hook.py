"""RandomStateHook, and what a checkpoint may hold in the place of random numbers."""

from __future__ import annotations

import os
import pickle

import torch
from torch.utils.data import DataLoader

from kddense import RandomStateHook


class Trap:
    """What makes a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_bytes_of_a_checkpoint_are_never_unpickled(tmp_path):
    """Weights-only loading lets bytes through: they must stay bytes when the states of workers are saved again."""
    hostile = pickle.dumps(Trap(tmp_path / 'it_ran'))
    hook = RandomStateHook()
    hook._resumed = dict(workers=[hostile])
    hook._listen(DataLoader([torch.zeros(1)], num_workers=1, persistent_workers=True))

    assert hook._own_state()['workers'] == [hostile]
    assert not (tmp_path / 'it_ran').exists()

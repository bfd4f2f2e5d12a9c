"""Tests of what a CPU has not: streams, graphs, waiting. `make test-gpu` runs them; without a GPU none is collected."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

# Before the first matrix product, for the same sums each time.
os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
collect_ignore_glob = [] if torch.cuda.is_available() else ['test_*.py']


@pytest.fixture(autouse=True)
def same_sums() -> Iterator[None]:
    """Sums in the same order in each run, and in full precision."""
    precision = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # what is read before it is written must not be hidden
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    torch.backends.cudnn.allow_tf32 = precision

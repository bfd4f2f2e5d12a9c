"""A clock that no load of the machine can disturb."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch


@contextmanager
def counting_clock(module: ModuleType, owner: Any, method: str, more: float) -> Iterator[None]:
    """Let a module's steps take a second, and so many more for each call of a method."""
    with patch.object(owner, method, autospec=True, side_effect=getattr(owner, method)) as called:

        def clock(take, *_):
            before = called.call_count
            take()
            return 1 + more * (called.call_count - before)

        with patch.object(module, 'timed', clock):
            yield

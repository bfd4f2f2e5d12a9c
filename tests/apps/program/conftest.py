"""Toy programmes, whose processes start quickly."""

from __future__ import annotations

import pytest

from ...helpers.programmes import ToyProgramme


@pytest.fixture
def toy(segmentor, tmp_path, monkeypatch, quick_processes) -> ToyProgramme:
    """Programmes of toy segmentors."""
    monkeypatch.chdir(tmp_path)
    return ToyProgramme(segmentor, tmp_path)

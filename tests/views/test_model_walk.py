"""Every architecture of mmdet is served or refused in one sentence, and the page says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ..helpers import model_walk

PAGE = Path(__file__).parents[2] / 'docs/refused.md'


@pytest.fixture(scope='module')
def said():
    return {path: model_walk.said_of(path) for path in model_walk.architectures().values()}


def test_every_architecture_serves_kinds_or_says_why_not(said):
    assert len(said) > 60
    for path, kinds in said.items():
        for kind, sentence in kinds.items():
            assert sentence is None or sentence.startswith('student'), (path, kind)
            assert sentence is None or '\n' not in sentence, (path, kind)


def test_the_page_is_what_is_said():
    made = model_walk.page()
    if os.environ.get('KDDENSE_WRITE'):
        PAGE.write_text(made)
    assert PAGE.read_text() == made, f'write it anew: KDDENSE_WRITE=1 pytest {Path(__file__).name}'

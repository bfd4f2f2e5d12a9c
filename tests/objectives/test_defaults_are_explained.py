"""Each objective's defaults come with their evidence, on one page."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import kddense.objectives
from kddense.objectives import Objective
from kddense.registry import MODELS

PAGE = (Path(__file__).parents[2] / 'docs/methods/defaults.md').read_text()
for module in pkgutil.walk_packages(kddense.objectives.__path__, 'kddense.objectives.'):
    importlib.import_module(module.name)
NAMES = [
    name
    for name, part in MODELS.module_dict.items()
    if inspect.isclass(part) and issubclass(part, Objective) and part.__module__.startswith('kddense.objectives.')
]


@pytest.mark.parametrize('name', NAMES)
def test_the_page_of_defaults_has_it(name):
    rows = [line for line in PAGE.splitlines() if line.startswith('|') and f'`{name}`' in line]
    assert rows
    assert all(cell.strip() for row in rows for cell in row.strip('|').split('|'))

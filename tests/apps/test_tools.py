"""The scripts: thin doors to the package, each with its help."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'
SCRIPTS = sorted(path.name for path in TOOLS.glob('*.py'))


@pytest.mark.parametrize('name', SCRIPTS)
def test_a_script_opens_on_its_app(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [name, '--help'])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOLS / name), run_name='__main__')

    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.partition('usage: ')[2].startswith((name, 'kddense '))
    assert re.search(rf'^ *(python tools/{name}|kddense [\w-]+) ', said, flags=re.MULTILINE)  # an example


@pytest.mark.parametrize('name', SCRIPTS)
def test_a_script_holds_nothing_of_its_own(name):
    assert len((TOOLS / name).read_text().splitlines()) <= 15

"""The command: its table of subcommands, quick help, and one sentence for what is not in the table."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
from importlib.util import find_spec

import pytest

from kddense_start import command


def test_the_table_names_apps():
    assert [name for name, one in command.SUBCOMMANDS.items() if find_spec(one.module) is None] == []


@pytest.mark.parametrize('name', list(command.SUBCOMMANDS))
def test_a_subcommand_explains_itself_under_its_name(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['/usr/bin/kddense'])
    with pytest.raises(SystemExit) as ended:
        command.main([name, '--help'])

    assert ended.value.code == 0
    said = ' '.join(capsys.readouterr().out.split())
    assert said.startswith(f'usage: kddense {name} ')
    assert f'kddense {name} ' in said.partition('options:')[0][len(f'usage: kddense {name} ') :]  # an example


def test_a_subcommand_is_given_its_arguments_and_its_status_returned(monkeypatch):
    given = []
    app = types.SimpleNamespace(main=lambda argv: given.append(argv) or 3)
    monkeypatch.setattr(importlib, 'import_module', lambda name: app)
    monkeypatch.setattr(sys, 'argv', ['/somewhere/kddense/__main__.py', 'train', 'a.py', '--amp'])

    assert command.main() == 3
    assert given == [['a.py', '--amp']]
    assert sys.argv[0] == 'python -m kddense train'


@pytest.mark.parametrize(
    'name, expected',
    [
        ('distil', "there is no subcommand 'distil', did you mean 'distill'?; kddense --help lists them all"),
        ('meassure', "there is no subcommand 'meassure', did you mean 'measure'?; kddense --help lists them all"),
        ('xyz', "there is no subcommand 'xyz'; kddense --help lists them all"),
    ],
)
def test_an_unknown_subcommand_is_one_sentence(name, expected, capsys):
    assert command.main([name]) == 2
    assert capsys.readouterr().err == f'error: {expected}\n'


@pytest.mark.parametrize('arguments', [[], ['--help'], ['--version'], ['unknown']])
def test_help_comes_without_pytorch(arguments):
    code = f"""
import sys
from kddense_start import command
status = command.main({arguments})
assert not {{'torch', 'kddense', 'mmengine'}} & set(sys.modules), 'slow'
sys.exit(status)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)

    assert done.returncode == (2 if arguments == ['unknown'] else 0), done.stderr
    if arguments in ([], ['--help']):
        assert set(command.SUBCOMMANDS) <= set(done.stdout.split())


def test_as_a_module_it_is_the_same_command(python):
    done = subprocess.run([python, '-m', 'kddense', 'scenes', '--help'], capture_output=True, text=True)

    assert done.stdout.startswith('usage: python -m kddense scenes'), done.stderr

"""Plug-ins use nothing that is private, and replace nothing."""

import ast
from pathlib import Path

import pytest

FILES = sorted(set(Path(__file__).parent.glob('test_*.py')) - {Path(__file__)})
TRICKS = ('object.__setattr__', 'setattr', 'monkeypatch', '__dict__')


def tricks_in(source):
    """Return the private attributes of others that a source uses, and its ways to set some behind a back."""
    names = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Attribute, ast.Name))]
    found = []
    for node in names:
        name = node.attr if isinstance(node, ast.Attribute) else node.id
        own = isinstance(node, ast.Attribute) and ast.unparse(node.value) in ('self', 'super()')
        private = name.startswith('_') and not name.endswith('__') and not own
        if (private and isinstance(node, ast.Attribute)) or name in TRICKS or ast.unparse(node) in TRICKS:
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_a_plug_in_uses_public_names_only(file):
    assert not tricks_in(file.read_text())


@pytest.mark.parametrize(
    'line',
    [
        'model.teacher._view',
        "object.__setattr__(t, 'answer', f)",
        "monkeypatch.setattr(t, 'answer', f)",
        'self.__dict__',
    ],
)
def test_tricks_are_found(line):
    assert tricks_in(line)

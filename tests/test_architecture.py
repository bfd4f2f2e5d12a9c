"""The shape of the house: imports run one way, modules are short, and the root holds what everything stands on."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'kddense'
START = PACKAGE.with_name('kddense_start')
# From the ground up. A room may import those of its own floor, as long as there is no circle, and those below.
FLOORS = (
    ('registry', 'options', 'errors', 'random_state', 'compat', 'taps', 'exchange', 'configs', 'pretrained', 'files'),
    ('losses', 'models', 'connectors', 'datasets', 'evaluation', 'quantisation'),
    ('views',),
    ('teachers',),
    ('objectives',),
    ('distiller',),
    ('training',),
    ('report', 'export'),
    ('apps',),
    ('__main__',),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
AT_THE_ROOT = {
    '__init__.py',
    '__main__.py',
    'configs.py',
    'errors.py',
    'exchange.py',
    'files.py',
    'options.py',
    'pretrained.py',
    'py.typed',
    'random_state.py',
    'registry.py',
    'taps.py',
}
LONGEST = 300


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Return the files of a package by the dotted names of their modules."""
    files = {}
    for file in sorted(package.rglob('*.py')):
        parts = file.relative_to(package.parent).with_suffix('').parts
        files['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = file
    return files


def imports_of(name: str, files: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Yield the modules of the package that a module imports, at its top, in functions or for types, with their lines."""
    parent = name if files[name].name == '__init__.py' else name.rpartition('.')[0]
    for node in ast.walk(ast.parse(files[name].read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = parent.split('.')[: len(parent.split('.')) - node.level + 1] if node.level else []
            source = '.'.join([*above, *([node.module] if node.module else [])])
            found = [f'{source}.{alias.name}' if f'{source}.{alias.name}' in files else source for alias in node.names]
        else:
            continue
        yield from ((node.lineno, one) for one in found if one in files)


def room_of(module: str) -> str | None:
    """Return the room of a module; ``None`` of the package itself, which imports them all."""
    _, _, inside = module.partition('.')
    return inside.partition('.')[0] or None


def arrows(files: dict[str, Path]) -> Iterator[tuple[str, str, str]]:
    """Yield all imports between rooms: the place of one, its room, the room that it imports."""
    for name in files:
        own = room_of(name)
        if own is None:
            continue
        for line, imported in imports_of(name, files):
            other = room_of(imported) or 'kddense'
            if other != own:
                yield f'{name}:{line} imports {imported}', own, other


def test_every_room_has_a_floor():
    rooms = {room_of(name) for name in modules()} - {None}
    assert rooms <= FLOOR_OF.keys()


def test_no_import_goes_up():
    """The package itself is the roof: its version comes from its metadata."""
    up = [place for place, own, other in arrows(modules()) if FLOOR_OF.get(other, len(FLOORS)) > FLOOR_OF[own]]
    assert up == []


def test_no_room_imports_itself_by_way_of_others():
    graph: dict[str, set[str]] = {}
    for _, own, other in arrows(modules()):
        graph.setdefault(own, set()).add(other)
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises a CycleError that names the circle
    assert graph.keys() <= set(order)


def test_no_module_is_long():
    lengths = {name: len(file.read_text().splitlines()) for name, file in {**modules(), **modules(START)}.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


@pytest.mark.parametrize('name', modules(START))
def test_what_comes_before_imports_python_alone(name):
    """At its top; what it finds out about other packages, it finds out in functions."""
    for node in ast.parse(modules(START)[name].read_text()).body:
        found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        assert {one.partition('.')[0] for one in found} <= {*sys.stdlib_module_names, 'kddense_start'}


def test_the_root_holds_what_everything_stands_on():
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert files <= AT_THE_ROOT


@pytest.mark.parametrize(
    'text, expected',
    [
        ('import pkg.high.door', ['pkg.high.door']),
        ('from pkg import high', ['pkg.high']),
        ('from pkg import __version__', ['pkg']),
        ('from pkg.high import door, Key', ['pkg.high.door', 'pkg.high']),
        ('from . import beside', ['pkg.low.beside']),
        ('from .beside import Thing', ['pkg.low.beside']),
        ('from ..high.door import Lock', ['pkg.high.door']),
        ('def f():\n    from pkg.high import Key', ['pkg.high']),
        ('import torch\nfrom torch import nn', []),
    ],
)
def test_imports_of_every_form_are_seen(text, expected, tmp_path):
    for name in ('pkg/__init__', 'pkg/low/__init__', 'pkg/low/beside', 'pkg/high/__init__', 'pkg/high/door'):
        file = tmp_path / f'{name}.py'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / 'pkg/low/module.py').write_text(text)
    files = modules(tmp_path / 'pkg')
    assert [imported for _, imported in imports_of('pkg.low.module', files)] == expected

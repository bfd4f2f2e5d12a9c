"""What a programme says: links, each an ordinary run, and which of them learn from which."""

from __future__ import annotations

import graphlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kddense.configs import find_config, read_config_file
from kddense.errors import ConfigError
from kddense.options import check_no_misspelling, faults
from kddense.taps import nearest

from .checks import COMMAND, RESULTS, check_command, check_keys, check_name, check_references, check_teacher, nodes_of

NAMING = ('teacher', 'same_time', 'ensemble')  # keys of a link that name others
REFERENCE = re.compile(rf'\{{([\w-]+)\.({"|".join(RESULTS)})\}}')


@dataclass(frozen=True)
class Link:
    """One run of a programme.

    Attributes:
        config: A training config: ``'package::path'``, or a path.
        student: In place of the student in ``config``: the model of another config, or sizes, see
            :func:`kddense.apps.program.sizes.resized`.
        teacher: The name of the link that it learns from; or what a :class:`kddense.Distiller` takes as ``teacher``, where
            ``link='name'`` stands for the config and the last checkpoint of a link.
        options: Changes to the config, as after ``--cfg-options``. ``'{name.checkpoint}'``, ``'{name.config}'`` and
            ``'{name.work_dir}'`` in a text stand for those of a link; its own ``work_dir`` too.
        seed: Of its random numbers. Where the programme has ``seeds``, a link without one runs once for each of them.
        seed_offset: Added to the seed of its random numbers; in tables it stays what it was. A generation that learns from
            another of the same seed begins with weights of its own by it.
        same_time: ``('plain', 'student')``: train for as long as the link ``student`` took, with what it learns from as far
            as that has no seed of its own, if ``plain`` tells how long a step is: the row "plain student, same time".
        command: How its processes are started. ``{arguments}`` are those of ``kddense``, ``{python}`` is the interpreter,
            ``{name}`` the link's name: ``'srun --job-name {name} {python} -m kddense {arguments} --launcher slurm'``.
        steps: Iterations, or epochs, to train for, with the config's schedule stretched or compressed to them.
        ensemble: Links whose models predict as one, see :class:`kddense.EnsembleModel`, in place of the config's model:
            nothing is trained, it is tested alone.
        name: What other links call it.
        row: Its name without the seed.
        has_own_seed: Whether ``seed`` was written: links of all seeds may learn from it.
        needs: The links that it learns from, directly.
    """

    config: str
    student: str | Mapping[str, Any] | None = None
    teacher: str | Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    seed_offset: int = 0
    command: str = COMMAND
    same_time: Sequence[str] | None = None
    steps: int | None = None
    ensemble: Sequence[str] = ()
    name: str = ''
    row: str = ''
    has_own_seed: bool = False
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Programme:
    """Links in an order in which none comes before what it learns from.

    Attributes:
        name: Of the file.
        links: By name.
        plain: The row of the plain student, which others are compared with; empty if nothing is compared.
    """

    name: str
    links: Mapping[str, Link]
    plain: str = ''


def read_programme(file: str) -> Programme:
    """Read a programme.

    Args:
        file: A Python config with ``links``, a dict of the arguments of :class:`Link` by name. It may also have ``command``
            for all of them, ``seeds`` for those without a seed of their own, and ``plain``, the link that others are
            compared with. A path, or ``'package::path'``.

    Raises:
        ConfigError: If something does not fit; the message begins with the key.
        FileNotFoundError: If there is no such file.
    """
    config = read_config_file(find_config(file))
    check_no_misspelling(config, ('links', 'command', 'seeds', 'plain'))
    written = config.get('links')
    if not isinstance(written, Mapping) or not written:
        raise ConfigError(f"must be a dict of links by name: '{file}' is no programme without", 'links')
    written = Config(dict(written)).to_dict()
    for name in written:
        check_name(name)
    check_references(written)
    command, plain = config.get('command', COMMAND), config.get('plain', '')
    if not isinstance(plain, str):
        raise ConfigError(f'must be the name of a link, got {plain!r}', 'plain')
    if plain and plain not in written:
        raise ConfigError(f": there is no link '{plain}'{nearest(plain, written)}", 'plain')
    links: dict[str, Link] = {}
    for name, one in (each for row in written for each in _for_each_seed(row, written, config.get('seeds'))):
        if name in links:
            raise ConfigError(': this name is also that of a link with its seed: choose another', f"links['{name}']")
        links[name] = _link(name, one, command)
    for link in links.values():
        for other in link.needs:
            if other not in links:
                raise ConfigError(f": there is no link '{other}'{nearest(other, links)}", f'links.{link.name}')
    return Programme(
        Path(file.partition('::')[2] or file).stem, {name: links[name] for name in _in_order(links)}, plain
    )


def part_of(programme: Programme, names: Sequence[str]) -> list[str]:
    """Return the names of some links and of all that they learn from, in the programme's order.

    Args:
        programme: The programme.
        names: Links, or rows: all seeds of one.

    Raises:
        ConfigError: If a name is that of neither.
    """
    wanted: set[str] = set()
    known = {one for link in programme.links.values() for one in (link.name, link.row)}
    for name in names:
        if name not in known:
            raise ConfigError(f": there is no link '{name}'{nearest(name, sorted(known))}", '--links')
        wanted.update(link.name for link in programme.links.values() if name in (link.name, link.row))
    for link in reversed(list(programme.links.values())):
        wanted.update(link.needs if link.name in wanted else ())
    return [name for name in programme.links if name in wanted]


def _for_each_seed(row: str, written: Mapping[str, Any], seeds: Any) -> Iterator[tuple[str, Any]]:
    """Yield a link once for each seed, by name: each learns from those of its own seed."""
    if seeds is None:
        yield row, written[row]
        return
    for place, fault in faults(seeds, Sequence[int], 'seeds'):
        raise ConfigError(fault, place)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f'must be different ones, got {seeds!r}', 'seeds')
    several = {name for name, one in written.items() if isinstance(one, Mapping) and 'seed' not in one}
    if row not in several:
        yield row, written[row]
        return
    for seed in seeds:
        names = {name: f'{name}-{seed}' for name in several}
        yield names[row], {**_with_names(written[row], names), 'seed': seed, 'row': row}


def _with_names(link: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a link that names others by other names."""
    found = replaced(link, lambda name, what: f'{{{names.get(name, name)}.{what}}}')
    return {key: _renamed(one, names, True) if key in NAMING else one for key, one in found.items()}


def _renamed(node: Any, names: Mapping[str, str], is_name: bool) -> Any:
    if isinstance(node, Mapping):
        return {key: _renamed(one, names, key == 'link') for key, one in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(_renamed(one, names, is_name) for one in node)
    return names.get(node, node) if is_name and isinstance(node, str) else node


def replaced(node: Any, told: Callable[[str, str], str]) -> Any:
    """Return a config with other texts for its references to links.

    Args:
        node: A config, or a part of one.
        told: Is given the name of a link and one of :data:`RESULTS`.
    """
    if isinstance(node, Mapping):
        return {key: replaced(value, told) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(replaced(value, told) for value in node)
    return REFERENCE.sub(lambda match: told(match[1], match[2]), node) if isinstance(node, str) else node


def _link(name: str, written: Any, command: str) -> Link:
    where = f'links.{name}'
    if not isinstance(written, Mapping):
        raise ConfigError(f'must be a dict with a config, got {written!r}', where)
    row = written.get('row', name)
    has_own_seed = 'seed' in written and 'row' not in written
    written = {key: one for key, one in written.items() if key != 'row'}
    check_keys(written, where)
    arguments = {'command': command, **written}
    check_command(arguments['command'], f'{where}.command' if 'command' in written else 'command')
    check_teacher(written.get('teacher'), f'{where}.teacher')
    needs = tuple(dict.fromkeys(_named_in(written, name)))
    return Link(**arguments, name=name, row=row, has_own_seed=has_own_seed, needs=needs)


def _named_in(written: Mapping[str, Any], own: str) -> Iterator[str]:
    """Yield the names of the links that a link needs; that it writes into its own ``work_dir`` makes it need none."""
    teacher = written.get('teacher')
    if isinstance(teacher, str):
        yield teacher
    yield from written.get('same_time') or ()
    yield from written.get('ensemble') or ()
    for node in nodes_of(teacher):
        if isinstance(node, Mapping) and isinstance(node.get('link'), str):
            yield node['link']
    for node in nodes_of([written.get('options'), teacher]):
        if isinstance(node, str):
            yield from (match[1] for match in REFERENCE.finditer(node) if match[0] != f'{{{own}.work_dir}}')


def _in_order(links: Mapping[str, Link]) -> list[str]:
    try:
        return list(graphlib.TopologicalSorter({name: link.needs for name, link in links.items()}).static_order())
    except graphlib.CycleError as error:
        circle = ', which learns from '.join(reversed(error.args[1]))
        raise ConfigError(f': {circle}: a circle, of which no link can be the first', 'links') from None

"""What a link of a programme may say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kddense.errors import ConfigError
from kddense.options import faults, no_such_key, shown

COMMAND = '{python} -m kddense {arguments}'
ARGUMENTS = '{arguments}'
FIELDS = ('python', 'arguments', 'name')
RESULTS = ('checkpoint', 'config', 'work_dir')

KNOWN = {
    'config': str,
    'student': str | Mapping | None,
    'teacher': str | Mapping | None,
    'options': Mapping,
    'seed': int,
    'seed_offset': int,
    'command': str,
    'same_time': Sequence[str] | None,
    'ensemble': Sequence[str],
    'steps': int | None,
}


def check_name(name: Any) -> None:
    """Check the name of a link."""
    if not isinstance(name, str) or not re.fullmatch(r'[\w-]+', name):
        raise ConfigError('is no name for a link: letters, digits, _ and - alone', f'links[{name!r}]')


def check_keys(written: Mapping[str, Any], where: str) -> None:
    """Check the keys of a link, each and together."""
    for key in written:
        if key not in KNOWN:
            raise ConfigError(no_such_key(key, KNOWN), where)
        for place, fault in faults(written[key], KNOWN[key], key):
            raise ConfigError(fault, f'{where}.{place}')
    if 'config' not in written:
        raise ConfigError(" needs the key 'config', a training config", where)
    if written.get('same_time') and len(written['same_time']) != 2:
        raise ConfigError(
            f"must name two links, ('plain', 'student'), got {written['same_time']!r}", f'{where}.same_time'
        )
    for key in ('student', 'teacher', 'steps', 'same_time') if written.get('ensemble') else ():
        if written.get(key) is not None:
            raise ConfigError(f'trains nothing, so {key} has no meaning: remove it', f'{where}.ensemble')
    if written.get('same_time') and written.get('steps') is not None:
        raise ConfigError('is how long to train too: remove one of steps and same_time', f'{where}.same_time')
    if (steps := written.get('steps')) is not None and steps < 1:
        raise ConfigError(f'must be at least 1, got {steps}', f'{where}.steps')


def check_command(command: str, key: str) -> None:
    """Check how processes are started."""
    words = _words_of(command, key) if isinstance(command, str) else []
    if {word for word in words if ARGUMENTS in word} != {ARGUMENTS}:
        raise ConfigError(
            f"must be a text with {ARGUMENTS} as a word of its own, such as '{COMMAND}', got {command!r}", key
        )
    for name in re.findall(r'\{(\w*)\}', ' '.join(words)):
        if name not in FIELDS:
            raise ConfigError(f': there is no {{{name}}}, only {", ".join(f"{{{one}}}" for one in FIELDS)}', key)


def _words_of(command: str, key: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ConfigError(f': {str(error).lower()} in {command!r}: add it', key) from None


def check_teacher(node: Any, key: str) -> None:
    """Check that what a teacher names as links are names."""
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for name, child in children:
        place = f'{key}.{name}' if isinstance(node, Mapping) else f'{key}[{name}]'
        if name == 'link' and not isinstance(child, str):
            raise ConfigError(f'must be the name of a link, got {shown(child)}', place)
        check_teacher(child, place)


def check_references(links: Mapping[str, Any]) -> None:
    """Check that what texts take of links is one of :data:`RESULTS`."""
    for name, link in links.items():
        for node in nodes_of(link):
            for other, what in re.findall(r'\{([\w-]+)\.(\w+)\}', node) if isinstance(node, str) else ():
                if other in links and what not in RESULTS:
                    there = ', '.join(f'{{{other}.{one}}}' for one in RESULTS)
                    raise ConfigError(f': there is no {{{other}.{what}}}, only {there}', f'links.{name}')


def nodes_of(node: Any) -> Iterator[Any]:
    """Yield a part of a config and all that lies in it."""
    yield node
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, (list, tuple)) else ()
    for child in children:
        yield from nodes_of(child)

"""Say what is installed, which operators are used, on which devices, and whether all of it is sound.

    kddense doctor

prints each thing that is wrong with its mend, and ends with status 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from kddense_start.environment import DISTRIBUTIONS, Environment, look
from kddense_start.problems import notes_on, problems_of


def main(argv: Sequence[str] | None = None) -> int:
    """Look at this environment, and print what was found.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        0, or 1 if something is wrong.
    """
    args = _parse_args(argv)
    environment = look()
    found = examined(environment)
    print(json.dumps(found, indent=2) if args.json else _text(found))
    return 0 if found['sound'] else 1


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=os.path.basename(sys.argv[0]),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--json', action='store_true', help='print it for programs')
    return parser.parse_args(argv)


def examined(environment: Environment) -> dict[str, Any]:
    """Return all that is said of an environment, as JSON has it."""
    problems = problems_of(environment)
    return {
        'python': environment.python,
        'modules': {
            name: {
                'version': found.version,
                'from': list(found.distributions),
                'folder': found.folder,
                'error': found.error,
            }
            for name in DISTRIBUTIONS
            for found in [environment.modules[name]]
        },
        'openmmlab': environment.openmmlab,
        'operators': environment.operators[1],
        'devices': list(environment.devices),
        'problems': [problem._asdict() for problem in problems],
        'notes': notes_on(environment),
        'sound': not problems,
    }


def _text(found: dict[str, Any]) -> str:
    lines = [f'{"python":<12} {found["python"]}']
    for name, module in found['modules'].items():
        source = ', '.join(module['from'])
        version = (
            'broken' if module['error'] else module['version'] or ('there' if module['folder'] else 'not installed')
        )
        lines.append(f'{name:<12} {version:<14} {source} {module["folder"]}'.rstrip())
    lines += [
        '',
        f'OpenMMLab: {found["openmmlab"]}',
        f'operators: {found["operators"] or "unknown"}',
        f'devices: {", ".join(found["devices"]) or "none, as PyTorch cannot be imported"}',
        '',
    ]
    for problem in found['problems']:
        lines += [f'problem: {problem["what"]}', f'     do: {problem["do"]}']
    lines += [f'note: {note}' for note in found['notes']]
    lines.append('the installation is sound' if found['sound'] else 'the installation is not sound')
    return '\n'.join(lines)

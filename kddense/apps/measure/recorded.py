"""Tables as they are recorded: JSON in short lines, with what a person wrote into them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .statistics import verdict


def as_json(contents: Any, indent: str = '', width: int = 120) -> str:
    """Return JSON in which what fits on a line stands on one."""
    line = json.dumps(contents, ensure_ascii=False)
    if len(indent) + len(line) <= width or not isinstance(contents, (dict, list)) or not contents:
        return line
    inner = indent + '  '
    if isinstance(contents, dict):
        parts = [f'{json.dumps(key, ensure_ascii=False)}: {as_json(value, inner)}' for key, value in contents.items()]
    else:
        parts = [as_json(value, inner) for value in contents]
    left, right = '{}' if isinstance(contents, dict) else '[]'
    return f'{left}\n{inner}' + f',\n{inner}'.join(parts) + f'\n{indent}{right}'


def read_table(path: Path) -> dict[str, Any]:
    """Read a recorded table.

    Raises:
        ValueError: If the file is none: what it lacks.
    """
    try:
        contents = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is no JSON ({error})') from None
    if not isinstance(contents, dict) or not isinstance(contents.get('rows'), list):
        raise ValueError(f"{path} is no table of measured runs: it must be a dict with 'rows'")
    for row in contents['rows']:
        lacking = [
            key for key in ('config', 'metric', 'seeds', 'scores', 'paired_mean', 'paired_ci95') if key not in row
        ]
        if lacking:
            raise ValueError(f"{path}: the row of {row.get('config', 'no config')} lacks '{lacking[0]}'")
        for compared in filter(None, [row, row.get('same_time')]):
            compared.setdefault('verdict', verdict(compared.get('paired_ci95')))
    metrics = list(dict.fromkeys(row['metric'] for row in contents['rows']))
    if len(metrics) > 1:
        raise ValueError(f'{path}: rows of {" and of ".join(metrics)} stand in no table together')
    if not metrics and 'metric' not in contents:
        raise ValueError(f'{path} is no table of measured runs: it has no row')
    return {'metric': metrics[0] if metrics else None, 'plain': None, 'plain_same_time': None, **contents}


def keep_names(contents: dict[str, Any], before: Mapping[str, Any]) -> None:
    """Take over what a person wrote into the recorded table: titles of rows, and the teacher."""
    titles = {row['config']: row['title'] for row in before['rows'] if 'title' in row}
    for row in contents['rows']:
        if row['config'] in titles:
            row['title'] = titles[row['config']]
    contents['teacher'] = contents['teacher'] or before.get('teacher')

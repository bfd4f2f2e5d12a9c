"""What the repository publishes of searches is what they found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[3] / 'configs'


@pytest.mark.parametrize('file', sorted(CONFIGS.glob('*/searched_*.json')), ids=lambda file: file.stem)
def test_the_table_of_a_search_is_its_record(file):
    record = json.loads(file.read_text())
    rows = [line.strip('| ').split(' | ') for line in (file.parent / 'README.md').read_text().splitlines()]
    for place, search in ((-2, 'taught'), (-1, 'alone')):
        assert record[search]
        for student in record[search]:
            choice, costs = list(student['choice'].values()), (student['multiply_adds'], student['parameters'])
            (row,) = [row for row in rows if row[:-2] == [*choice, *(f'{cost:.2f}' for cost in costs)]]
            assert row[place] == f'{student["value"]:.2f}'
    assert len(record['taught']) <= record['trained']['taught']

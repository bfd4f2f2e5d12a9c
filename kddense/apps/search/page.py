"""What a search found: all students, the Pareto fronts, and the best student's config; one page about both searches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kddense.files import write_whole
from kddense.report.simple_page import scatter, write_page

from .folder import study_in
from .space import LIMITS, Search, config_of
from .study import front

STUDENTS = 'students.json'
FRONT = 'front.json'
BEST = 'best.py'
PAGE = 'report.html'
SEARCHES = {'taught': 'with the teacher', 'alone': 'alone'}
COSTS = {'latency': 'milliseconds', 'multiply_adds': 'G multiply-adds', 'parameters': 'M parameters'}


def write_results(study: Any, search: Search, folder: Path, name: str) -> list[str]:
    """Write all students, the front and the best config, and the page beside both searches; returns lines about them.

    Args:
        study: Optuna's, done.
        search: What was searched.
        folder: Of this search: ``taught`` or ``alone``, in the folder that both share.
        name: The page's title.
    """
    done = [one for one in study.get_trials(deepcopy=False) if one.state.name == 'COMPLETE']
    if not done:
        return ['no student within the limit came to its end with a finite metric']
    cost = next(iter(search.limit)) if search.limit else LIMITS[0]
    rows = [dict(trial=one.number, choice=one.params, value=one.value, **one.user_attrs['costs']) for one in done]
    best = _front(rows, cost)
    for file, contents in ((STUDENTS, rows), (FRONT, best)):
        write_whole(folder / file, (json.dumps(contents, indent=2) + '\n').encode(), shared=True)
    config = config_of(search, study.best_trial.params, folder.name == 'taught', short=False)
    write_whole(folder / BEST, config.pretty_text.encode(), shared=True)
    shown = {kind: learns for kind, learns in SEARCHES.items() if _is_of(study_in(folder), folder.parent / kind)}
    page = _write_page(search, folder.parent, shown, cost, name)
    others = [folder.parent / kind for kind in SEARCHES if kind not in shown]
    lines = [f'{one} holds a study of another space, config or schedule: {page} leaves it out' for one in others]
    lines += [f'the front by {cost}:']
    lines += [f'  {one["value"]:.3f} at {one[cost]:.2f}: {one["choice"]}' for one in best]
    return [*lines, f'the best student is {folder / BEST}, to be trained in full; all are in {page}']


def _front(rows: list[dict[str, Any]], cost: str) -> list[dict[str, Any]]:
    """Return the students that nothing beats at the same or a lower cost, the cheapest first."""
    chosen = front({str(place): (one[cost], one['value']) for place, one in enumerate(rows)})
    return [rows[int(place)] for place in chosen]


def _is_of(digest: str | None, folder: Path) -> bool:
    """Tell whether a folder is of a study, as far as its note says."""
    return study_in(folder) in (None, digest)


def _write_page(search: Search, work_dir: Path, shown: Mapping[str, str], cost: str, name: str) -> Path:
    """Write the page about those of the searches shown that are there, with a teacher and without."""
    found = {}
    for kind, learns in shown.items():
        file = work_dir / kind / STUDENTS
        if file.exists():
            found[learns] = json.loads(file.read_text())
    fronts = {learns: {one: _front(rows, one) for one in COSTS} for learns, rows in found.items()}
    points = [(learns, row) for learns, rows in found.items() for row in rows]
    figures = [
        scatter(
            [(learns, row[one], row['value']) for learns, row in points],
            label,
            'value',
            [[(row[one], row['value']) for row in best[one]] for best in fronts.values()],
        )
        for one, label in COSTS.items()
    ]
    rows = [dict(row, learns=learns, front=row in fronts[learns][cost]) for learns, row in points]
    rows.sort(key=lambda row: -row['value'])
    return write_page(
        work_dir / PAGE,
        'search.html',
        name,
        shared=True,  # workers end together
        rows=rows,
        space=list(search.space),
        costs=COSTS,
        steps=search.steps,
        figures=figures,
    )

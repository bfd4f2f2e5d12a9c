"""One page about all links of a programme: metric against parameters and time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kddense.apps.measure.result import Result, this_machine
from kddense.apps.measure.table import Table, make_table
from kddense.files import write_whole
from kddense.report import simple_page
from kddense.report.figure import Figure
from kddense.report.metrics import HEADLINES, Metric
from kddense.training.settings import setting_of

from .links import Link, Programme
from .versions import RESULT, Version

PAGE = 'report.html'
TABLE = 'links.json'


def results_of(links: Mapping[str, Version]) -> list[dict[str, Any]]:
    """Return the results of the links that are done, in order."""
    return [json.loads((one.folder / RESULT).read_text()) for one in links.values() if one.is_done]


def write_page(name: str, links: Mapping[str, Version], work_dir: Path) -> Path:
    """Write the page, and the same as JSON beside it.

    Args:
        name: Of the programme.
        links: All links; those that are not done are named as such.
        work_dir: Where to.
    """
    results = results_of(links)
    write_whole(work_dir / TABLE, (json.dumps(results, indent=2, ensure_ascii=False) + '\n').encode())
    metrics = _metrics(results)
    return simple_page.write_page(
        work_dir / PAGE,
        'program.html',
        name,
        results=results,
        metrics=metrics,
        missing=[one.link.name for one in links.values() if not one.is_done],
        figures=_figures(results, metrics[0]) if metrics else [],
    )


def lines_of(links: Mapping[str, Version]) -> list[str]:
    """Return a line of text for each link that is done: its metric, parameters, minutes."""
    results = results_of(links)
    metrics = _metrics(results)
    return [
        f'{one["link"]}: '
        + ', '.join(
            [
                *(f'{metric.label} {written(metric, one)}' for metric in metrics[:1]),
                f'{one["parameters"] / 1e6:.2f} M parameters',
                *([f'{one["minutes"]:.1f} min'] if one['minutes'] is not None else []),
            ]
        )
        for one in results
    ]


def table_of(programme: Programme, links: Mapping[str, Version], command: str) -> Table:
    """Return the table of ``kddense measure`` of the links that train and test the plain student's model, paired by seed."""
    done = [(one, json.loads((one.folder / RESULT).read_text())) for one in links.values() if one.is_done]
    plain = {result['parameters'] for one, result in done if one.link.row == programme.plain}
    compared = [(one, result) for one, result in done if result['parameters'] in plain and result['scores']]
    results = [_measured(one, result, programme) for one, result in compared]
    return make_table(results, commands=[command], time_by_seed=True)


def _measured(version: Version, result: Mapping[str, Any], programme: Programme) -> Result:
    plain = programme.plain
    role = 'plain, same time' if version.link.same_time else 'plain' if version.link.row == plain else 'distilled'
    return Result(
        config=plain if role.startswith('plain') else result['row'],
        role=role,
        seed=result['seed'],
        steps=result['steps'],
        scores=result['scores'],
        seconds=60 * (result['minutes'] or 0.0),
        parameters=result['parameters'],
        setting=setting_of(version.config),
        machine=this_machine(),
        time_of=_time_of(version.link, programme),
    )


def _time_of(link: Link, programme: Programme) -> str:
    """Return the row whose time a link has; empty if all rows have one such link, or it has none."""
    rows = {one.row for one in programme.links.values() if one.same_time}
    if not link.same_time or len(rows) < 2:
        return ''
    return programme.links[link.same_time[1]].row


def written(metric: Metric, result: Mapping[str, Any]) -> str:
    """Return a metric of a result as text; ``–`` if it was not measured."""
    value = result['scores'].get(metric.key)
    return '–' if value is None else f'{value:.{metric.digits}f}'


def _metrics(results: Sequence[Mapping[str, Any]]) -> list[Metric]:
    """Return the metrics that were measured, the one that decides first."""
    keys = list(dict.fromkeys(key for one in results for key in one['scores']))
    order = {name: place for place, name in enumerate(HEADLINES)}
    keys.sort(key=lambda key: order.get(key.rpartition('/')[2], len(order)))
    return [metric for metric in map(Metric.of, keys) if metric.sign][:6]


def _figures(results: Sequence[Mapping[str, Any]], metric: Metric) -> list[Figure]:
    found = []
    for key, label, scale in (('parameters', 'parameters, millions', 1e-6), ('minutes', 'minutes of training', 1.0)):
        points = [
            (one['link'], one[key] * scale, one['scores'][metric.key])
            for one in results
            if one[key] is not None and metric.key in one['scores']
        ]
        found.append(simple_page.scatter(points, label, metric.label))
    return found

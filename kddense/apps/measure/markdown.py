"""A recorded table in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SHORT = {
    'coco/bbox_mAP': 'mAP',
    'coco/bbox_mAP_50': 'mAP50',
    'coco/bbox_mAP_75': 'mAP75',
    'coco/segm_mAP': 'mask mAP',
    'coco/segm_mAP_50': 'mask mAP50',
    'aAcc': 'pixel accuracy',
}
OTHERS = {
    'coco/bbox_mAP': ('coco/bbox_mAP_50', 'coco/bbox_mAP_75'),
    'coco/segm_mAP': ('coco/segm_mAP_50', 'coco/bbox_mAP'),
    'mIoU': ('aAcc',),
    'abs_rel': ('rmse', 'd1'),
}  # metrics that are shown beside the one that decides, where a table has them


def markdown(table: Mapping[str, Any]) -> str:
    """Return the table with mean ± standard deviation over seeds, differences with intervals, and verdicts.

    Args:
        table: What :func:`kddense.apps.measure.table.make_table` makes.
    """
    metric = table['metric']
    rows = [row for row in (table['plain'], *table['rows']) if row]
    names = [metric, *(name for name in OTHERS.get(metric, ()) if any(scores_of(row, name) for row in rows))]
    heads = [
        '',
        'seeds',
        *(SHORT.get(name, name) for name in names),
        'gain, 95 % interval',
        'verdict',
        'at the same time',
        'minutes',
    ]
    lines = [_line(heads), '|---' * len(heads) + '|']
    for title, row in _plain_rows(table):
        if row:
            lines.append(_line([f'{title}{_size(row)}', *_measured(row, names), '', '', '', _minutes(row)]))
    for row in table['rows']:
        longer = row.get('same_time')
        same = (
            f'{gain(longer, metric)}, {longer["verdict"]}'
            if longer and longer['paired_mean'] is not None
            else 'not measured'
        )
        cells = [
            _title(row, table.get('tries')),
            *_measured(row, names),
            gain(row, metric),
            row['verdict'],
            same,
            _minutes(row),
        ]
        lines.append(_line(cells))
    teacher = table.get('teacher')
    if teacher:
        scores = [f'{teacher["scores"][name]:.{digits(name)}f}' if name in teacher['scores'] else '' for name in names]
        lines.append(_line([f'teacher{_size(teacher)}', '1', *scores, '', '', '', '']))
    return '\n'.join(lines)


def _plain_rows(table: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any] | None]]:
    titles = {row['config']: _title(row, table.get('tries')) for row in table['rows']}
    own = table.get('plain_same_time_of', {})
    return [
        ('plain student', table['plain']),
        ('plain student, same time', table['plain_same_time']),
        *((f'plain student, same time as {titles.get(config, config)}', row) for config, row in own.items()),
    ]


def over_images(table: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each row whose interval over the test images is known: these students, other images."""
    return [
        '{}: over the test images {:+.{p}f} [{:.{p}f}, {:.{p}f}]'.format(
            _title(row, table.get('tries')), row['paired_mean'], *row['images_ci95'], p=digits(table['metric'])
        )
        for row in table['rows']
        if row.get('images_ci95')
    ]


def _title(row: Mapping[str, Any], tries: Mapping[str, Any] | None) -> str:
    title = row.get('title') or Path(row['config']).stem
    if not tries or 'factor' not in row:
        return title
    title = f'{title}, weights × {row["factor"]:g}'
    return f'**{title}, chosen**' if tries['chosen'].get(row['config']) == row['factor'] else title


def gain(row: Mapping[str, Any], metric: str) -> str:
    """Return a paired difference and its interval, ``'+1.20 [0.31, 2.09]'``; above 0 helps."""
    if row['paired_mean'] is None:
        return ''
    places = digits(metric)
    text = f'{row["paired_mean"]:+.{places}f}'
    if row['paired_ci95']:
        text += ' [{:.{places}f}, {:.{places}f}]'.format(*row['paired_ci95'], places=places)
    return text


def digits(metric: str) -> int:
    """Return how many decimals a metric is given with: percentages 2, metres and fractions 4."""
    return 2 if metric.startswith(('coco/', 'm', 'a')) and metric != 'abs_rel' else 4


def spread(values: Mapping[str, float], places: int) -> str:
    """Return mean ± standard deviation, of values by seed."""
    numbers = list(values.values())
    deviation = f' ± {statistics.stdev(numbers):.{places}f}' if len(numbers) > 1 else ''
    return f'{statistics.mean(numbers):.{places}f}{deviation}'


def scores_of(row: Mapping[str, Any], name: str) -> Mapping[str, float]:
    """Return a metric of a row by seed; empty if it has none."""
    return row['scores'] if name == row['metric'] else row.get('other_scores', {}).get(name, {})


def _measured(row: Mapping[str, Any], names: list[str]) -> list[str]:
    found = [scores_of(row, name) for name in names]
    return [
        str(len(row['seeds'])),
        *(spread(values, digits(name)) if values else '' for values, name in zip(found, names, strict=True)),
    ]


def _size(row: Mapping[str, Any]) -> str:
    return f', {row["parameters"] / 1e6:.1f} M parameters' if row.get('parameters') else ''


def _minutes(row: Mapping[str, Any]) -> str:
    seconds = row.get('seconds')
    return f'{statistics.mean(seconds.values()) / 60:.1f}' if seconds else ''


def _line(cells: list[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'

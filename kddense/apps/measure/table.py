"""From results of runs to one table: pairs by seed, differences, intervals, verdicts, and what had to be left out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kddense.files import write_whole

from .recorded import as_json, keep_names, read_table
from .result import SAME_TIME, Result
from .statistics import bootstrap_iou, paired_interval, sign_of, verdict

METRICS = ('coco/bbox_mAP', 'mIoU', 'abs_rel')  # what decides, if no metric is named
COMPARED = ('distilled', 'continued')  # roles that make rows


@dataclass
class Table:
    """A table as it is recorded; see :func:`make_table`."""

    contents: dict[str, Any]
    faults: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        write_whole(path, (as_json(self.contents) + '\n').encode())

    def write_over(self, path: Path) -> None:
        """Write it in place of a recorded table, if there is one, and take over its rows' titles and its teacher.

        Raises:
            ValueError: If what is there is no table; it stays.
        """
        if path.exists():
            keep_names(self.contents, read_table(path))
        self.write(path)


def make_table(
    results: Sequence[Result],
    metric: str | None = None,
    commands: Sequence[str] = (),
    folders: Mapping[int, Path] | None = None,
    teacher: Mapping[str, Any] | None = None,
    time_by_seed: bool = False,
) -> Table:
    """Make a table of results, whichever machines they come from.

    What does not fit is left out, with a sentence each in ``faults``: results of other data, splits or sizes than the first
    one's, of other steps than the plain student's (unless they go on from a trained one), without the metric or of NaN,
    or of a seed that has no plain run.

    Args:
        results: Of one student.
        metric: What decides; by default the first of :data:`METRICS` that the results have.
        commands: The commands that made the table.
        folders: For results with images (by their index in ``results``), the folder of the file: adds bootstrap intervals.
        teacher: The teacher's row: ``config``, ``scores``, ``parameters``.
        time_by_seed: Plain students with the same time are as long as the run of their own seed took; else all are as long.

    Returns:
        ``contents`` is a dict of plain JSON values: ``metric``, ``steps``, ``setting``, ``plain``, ``plain_same_time``,
        ``teacher``, ``rows``, ``machine``, ``commands``. A row has ``config``, ``metric``, ``seeds``, ``scores`` by seed,
        ``paired_mean`` and ``paired_ci95`` against the plain student, signed so that above 0 helps, ``verdict``, and the
        same again under ``same_time``, against the plain student that had as much time; ``steps`` are the first seed's, and
        all under ``steps_by_seed`` where they differ. Where rows have plain students of their own times, these stand under
        ``plain_same_time_of``, by the row's config, and a row without one is compared with none.
    """
    faults: list[str] = []
    metric = metric or _metric_of(results)
    located = {id(result): (folders or {}).get(index) for index, result in enumerate(results)}
    kept = [result for result in _once(results, faults) if _fits(result, results, metric, faults)]
    plain, steps = _alike(kept, 'plain', faults)
    longer = _longer(kept, time_by_seed, faults)
    rows = []
    for role, config in dict.fromkeys((result.role, result.config) for result in kept if result.role in COMPARED):
        own = {result.seed: result for result in kept if (result.role, result.config) == (role, config)}
        if role == 'distilled':
            own = {seed: result for seed, result in own.items() if _as_long(result, steps, faults)}
        if own:
            row = _row(own, metric)
            row.update(_against(plain, own, metric, located, faults, 'plain run'))
            what = 'run of the plain student with the same time'
            base = longer.get(config, longer.get('', {}))
            row['same_time'] = _against(base, own, metric, located, faults, what) if base else None
            rows.append(row)
    contents = {
        'metric': metric,
        'steps': steps,
        'setting': next((result.setting for result in kept), {}),
        'plain': _row(plain, metric) if plain else None,
        'plain_same_time': _row(longer[''], metric) if longer.get('') else None,
        **_times_of(longer, metric),
        'teacher': dict(teacher) if teacher else None,
        'rows': rows,
        'machine': '; '.join(dict.fromkeys(result.machine for result in kept if result.machine)),
        'commands': list(commands),
    }
    if not plain:
        faults.insert(0, 'there is no run of the plain student, so nothing is compared')
    return Table(contents, faults)


def _longer(results: Sequence[Result], by_seed: bool, faults: list[str]) -> dict[str, dict[int, Result]]:
    """Return the plain students with the same time by seed, by the row whose time it is, ``''`` if it stands for all."""
    found = {}
    for row in dict.fromkeys(result.time_of for result in results if result.role == SAME_TIME):
        own = [result for result in results if result.role == SAME_TIME and result.time_of == row]
        found[row] = {result.seed: result for result in own} if by_seed else _alike(own, SAME_TIME, faults)[0]
    return found


def _times_of(longer: Mapping[str, Mapping[int, Result]], metric: str) -> dict[str, Any]:
    found = {row: _row(by_seed, metric) for row, by_seed in longer.items() if row and by_seed}
    return {'plain_same_time_of': found} if found else {}


def _metric_of(results: Iterable[Result]) -> str:
    found = {name for result in results for name in result.scores}
    return next((name for name in METRICS if name in found), next(iter(sorted(found)), METRICS[0]))


def _once(results: Iterable[Result], faults: list[str]) -> list[Result]:
    """Leave out what was given twice; the first counts."""
    kept: dict[tuple[str, str, int, str], Result] = {}
    for result in results:
        first = kept.setdefault((result.config, result.role, result.seed, result.time_of), result)
        if first is not result and first.scores != result.scores:
            faults.append(f'{result.label}: there are two results of this run that differ; the first one counts')
    return list(kept.values())


def _fits(result: Result, results: Sequence[Result], metric: str, faults: list[str]) -> bool:
    first = next((other for other in results if other.role == 'plain'), results[0])
    differing = _first_difference(first.setting, result.setting)
    if differing:
        faults.append(
            f'{result.label}: {differing}; runs of other data stand in a table of their own, so it is left out'
        )
        return False
    if metric not in result.scores:
        has = ', '.join(result.scores) or 'no metric at all'
        faults.append(f"{result.label}: the metric '{metric}' is absent (it has {has}), so it is left out")
        return False
    if not math.isfinite(result.scores[metric]):
        faults.append(f'{result.label}: its {metric} is {result.scores[metric]}, so it is left out')
        return False
    return True


def _first_difference(first: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    if not first or not other:
        return None
    for side in ('test', 'train'):
        mine, plain = other.get(side, {}), first.get(side, {})
        same = {'unlabelled', 'batch_size'} if _in_place_of_labelled(mine, plain) else {'unlabelled'}
        for key in (key for key in dict.fromkeys([*plain, *mine]) if key not in same):
            ours, theirs = mine.get(key), plain.get(key)
            if ours != theirs:
                return f"its {side}ing {key.replace('_', ' ')} is {_short(ours)}, the plain student's {_short(theirs)}"
    return None


def _in_place_of_labelled(mine: Mapping[str, Any], plain: Mapping[str, Any]) -> bool:
    """Tell whether batches are as large as the plain student's, with images without labels for the labelled ones."""
    return mine.get('unlabelled', 0) > 0 and mine['batch_size'] + mine['unlabelled'] == plain.get('batch_size')


def _short(value: Any) -> str:
    return ', '.join(map(str, value)) if isinstance(value, list) else str(value)


def _as_long(result: Result, steps: int | None, faults: list[str]) -> bool:
    if steps is None or result.steps == steps:
        return True
    faults.append(
        f'{result.label}: it was trained for {result.steps} steps, the plain student for {steps}, so it is left out; '
        'train both alike'
    )
    return False


def _alike(results: Iterable[Result], role: str, faults: list[str]) -> tuple[dict[int, Result], int | None]:
    """Return the runs of a role by seed, less those of other steps than most, and the steps."""
    found = [result for result in results if result.role == role]
    if not found:
        return {}, None
    steps = statistics.mode(result.steps for result in found)
    faults += [
        f'{result.label} ({role}): it was trained for {result.steps} steps, other seeds for {steps}, so it is left out'
        for result in found
        if result.steps != steps
    ]
    return {result.seed: result for result in found if result.steps == steps}, steps


def _row(by_seed: Mapping[int, Result], metric: str) -> dict[str, Any]:
    ordered = [by_seed[seed] for seed in sorted(by_seed)]
    first = ordered[0]
    others = [name for name in first.scores if name != metric and all(name in result.scores for result in ordered)]
    return {
        'config': first.config,
        'metric': metric,
        'seeds': sorted(by_seed),
        'scores': {str(result.seed): result.scores[metric] for result in ordered},
        'other_scores': {name: {str(result.seed): result.scores[name] for result in ordered} for name in others},
        'steps': first.steps,
        **_steps_by_seed(ordered),
        'seconds': {str(result.seed): round(result.seconds, 1) for result in ordered},
        'parameters': first.parameters,
        'machine': first.machine,
        'commands': first.commands,
        **({'begins_from': first.begins_from} if first.begins_from else {}),
    }


def _steps_by_seed(ordered: Sequence[Result]) -> dict[str, Any]:
    """Return how long each run is, where they differ: those of a programme are as long as the run of their own seed took."""
    if len({result.steps for result in ordered}) == 1:
        return {}
    return {'steps_by_seed': {str(result.seed): result.steps for result in ordered}}


def _against(
    base: Mapping[int, Result],
    own: Mapping[int, Result],
    metric: str,
    located: Mapping[int, Path | None],
    faults: list[str],
    what: str,
) -> dict[str, Any]:
    """Return mean, interval and verdict of the pairs."""
    seeds = [seed for seed in sorted(own) if seed in base]
    faults += [
        f'{own[seed].label}: there is no {what} of this seed to pair it with'
        for seed in sorted(own)
        if seed not in base
    ]
    if not seeds or not base:
        return {'seeds': [], 'paired_mean': None, 'paired_ci95': None, 'verdict': verdict(None)}
    differences = [sign_of(metric) * (own[seed].scores[metric] - base[seed].scores[metric]) for seed in seeds]
    mean, interval = paired_interval(differences)
    compared: dict[str, Any] = {
        'seeds': seeds,
        'paired_mean': round(mean, 5),
        'paired_ci95': [round(end, 5) for end in interval] if interval else None,
        'verdict': verdict(interval),
    }
    files = [tuple(_images(result, located) for result in (own[seed], base[seed])) for seed in seeds]
    if metric == 'mIoU' and all(file and file.exists() for pair in files for file in pair):
        try:
            compared['images_ci95'] = [round(end, 5) for end in bootstrap_iou(files)]  # type: ignore[arg-type]
        except ValueError as error:
            faults.append(f'{error}; so there is no interval over images')
    return compared


def _images(result: Result, located: Mapping[int, Path | None]) -> Path | None:
    folder = located.get(id(result))
    return folder / result.images if folder and result.images else None

"""What a student gained over another one, how sure that is, and whether the two may be compared at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .contents import Entrant, Report
from .fairness import unequal
from .metrics import Metric, metric_by_class
from .resampling import interval, times_drawn

Draws = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Gain:
    """A difference.

    Attributes:
        text: As it is written, with its sign.
        span: Its 95 % interval as text, empty if it is not known.
        verdict: ``'better'`` or ``'worse'`` if the interval is on one side of 0 and the comparison is fair, else ``''``.
    """

    text: str
    span: str = ''
    verdict: str = ''


@dataclass
class Comparison:
    """A student beside another.

    Attributes:
        entrant: The student.
        against: Whom it is compared with.
        unequal: What is not equal between the two besides what is to be judged; see
            :func:`kddense.report.fairness.unequal`.
        gains: By metric.
        by_class: By class.
    """

    entrant: Entrant
    against: Entrant
    unequal: list[str]
    gains: dict[str, Gain] = field(default_factory=dict)
    by_class: dict[str, Gain] = field(default_factory=dict)


def add_comparisons(report: Report) -> None:
    """Compare each distilled student with the plain one at the same steps, and with the one that took as much time."""
    resampled = {entrant.title: _resampled(entrant) for entrant in report.entrants if entrant.role != 'teacher'}
    for against in (report.plain, report.same_time):
        if against is None:
            continue
        for entrant in report.entrants:
            if entrant.role == 'distilled':
                report.comparisons.append(_compare(report, entrant, against, resampled))


def _resampled(entrant: Entrant) -> tuple[Draws, Draws]:
    """Return a student's scores and scores by class in every draw of the images; nothing where images are not known."""
    images = entrant.evaluation.image_scores if entrant.evaluation else None
    if images is None:
        return {}, {}
    times = times_drawn(images.images)
    return images.scores(times), images.by_class(times)


def _images(entrant: Entrant) -> int | None:
    scores = entrant.evaluation.image_scores if entrant.evaluation else None
    return scores.images if scores else None


def _compare(
    report: Report, entrant: Entrant, against: Entrant, resampled: Mapping[str, tuple[Draws, Draws]]
) -> Comparison:
    found = Comparison(entrant, against, unequal(entrant, against, against.role == 'same time', report.split))
    if entrant.logged != against.logged:  # of other images, it may be
        found.gains.update({metric.key: Gain('') for metric in report.metrics})
        return found
    fair = not found.unequal
    (own, own_classes), (other, other_classes) = (resampled[one.title] for one in (entrant, against))
    if _images(entrant) != _images(against):  # no pairs
        own, own_classes = {}, {}
    for metric in report.metrics:
        pair = against.metric(metric.key), entrant.metric(metric.key)
        found.gains[metric.key] = _gain(metric, pair, own.get(metric.key), other.get(metric.key), fair)
    before, after = (one.evaluation.by_class if one.evaluation else {} for one in (against, entrant))
    metric = metric_by_class(report.measure)
    for name in after:
        pair = before.get(name), after[name]
        found.by_class[name] = _gain(metric, pair, own_classes.get(name), other_classes.get(name), fair)
    return found


def _gain(
    metric: Metric,
    pair: tuple[float | None, float | None],
    own: np.ndarray | None,
    other: np.ndarray | None,
    fair: bool,
) -> Gain:
    text = metric.gain(*pair)
    if not text or own is None or other is None or own.shape != other.shape:
        return Gain(text)
    between = interval(own - other)
    if between is None:
        return Gain(text)
    low, high = (metric.difference(end) for end in between)
    return Gain(text, f'{low} to {high}', metric.verdict(between) if fair else '')

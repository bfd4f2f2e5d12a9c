"""Curves of the students' trainings, by what they show."""

from __future__ import annotations

from collections.abc import Sequence

from .contents import Entrant, Report
from .curves import GREY, PALETTE, Curve, plot
from .entrants import TEACHER
from .figure import Figure, svg_source


def add_curves(report: Report) -> None:
    """Draw the metric, the losses and the discriminators' scores of all students."""
    students = [entrant for entrant in report.entrants if entrant.role != 'teacher']
    if report.metrics:
        report.curves['The metric'] = _metric_curves(report, students)
    names = list(dict.fromkeys(name for entrant in students for name in entrant.run.losses()))
    for heading, chosen in (
        ("The student's own losses", [name for name in names if not name.startswith('distill.')]),
        ('Distillation losses', [name for name in names if name.startswith('distill.')]),
    ):
        report.curves[heading] = [_curve_figure(name, students, [name]) for name in chosen]
    report.curves["The discriminator's scores"] = [
        _curve_figure(objective, students, names) for objective, names in _scores(students).items()
    ]
    report.curves = {heading: figures for heading, figures in report.curves.items() if figures}


def _metric_curves(report: Report, students: Sequence[Entrant]) -> list[Figure]:
    metric = report.metrics[0]
    curves = []
    for entrant in students:
        x, y = entrant.run.metric_curve(metric.key)
        curves.append(Curve(entrant.title, x, [metric.factor * value for value in y], entrant.colour))
    reached = next((entrant.metric(metric.key) for entrant in report.entrants if entrant.role == 'teacher'), None)
    levels = {} if reached is None else {TEACHER: metric.factor * reached}
    if not any(curve.x for curve in curves):
        return []
    unit = 'epoch' if any(entrant.run.counts_epochs for entrant in students) else 'iteration'
    return [Figure(metric.label, svg_source(plot(curves, metric.label, unit, levels)))]


def _scores(students: Sequence[Entrant]) -> dict[str, list[str]]:
    """Return the discriminators' scores by objective."""
    names = dict.fromkeys(name for entrant in students for name in entrant.run.scores())
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(name.partition('.score_')[0], []).append(name)
    return grouped


def _curve_figure(title: str, students: Sequence[Entrant], names: Sequence[str]) -> Figure:
    curves = []
    for entrant in students:
        for index, name in enumerate(names):
            label = entrant.title if len(names) == 1 else name.rpartition('.score_')[2]
            colour = entrant.colour if len(names) == 1 else (PALETTE[1], GREY)[index % 2]
            curves.append(Curve(label, *entrant.run.curve(name), colour))
    return Figure(title, svg_source(plot(curves, title, 'iteration')))

"""The report: teacher, plain student and distilled student side by side, in one HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import set_random_seed
from torch import nn

from kddense.configs import is_distiller, read_config
from kddense.random_state import forked_random_state
from kddense.views import build_view

from .curves import GREY, PALETTE, Curve, plot
from .evaluation import (
    SPLITS,
    Evaluation,
    build_loader,
    build_model,
    evaluate,
    load_model,
    measure_costs,
    plain_config,
)
from .examples import Example, examples_of
from .knowledge import Knowledge, look
from .page import Entrant, Figure, Report, picture_source, render, svg_source
from .runs import Run, read_run

TEACHER, PLAIN = 'teacher', 'plain student'
Say = Callable[[str], None]


def write_report(
    out: str | Path,
    distilled: Sequence[str | Path],
    plain: str | Path | None = None,
    teacher: str | Path | None = None,
    split: str = 'val',
    images: int = 4,
    device: str = 'cpu',
    trust_checkpoint: bool = False,
    command: str = '',
    say: Say = print,
) -> Report:
    """Read work_dirs, measure their models, and write the page.

    Whatever is missing or fails is said on the page, which shows the rest.

    Args:
        out: The page to write, replaced as a whole.
        distilled: Work_dirs of distillations.
        plain: The work_dir of the plain student.
        teacher: The work_dir of the teacher; by default the teacher is what the first distillation's config names.
        split: What to measure on, ``'val'`` or ``'test'``.
        images: How many images to show.
        device: Where to run the models.
        trust_checkpoint: See :class:`kddense.Teacher`.
        command: How to make the page again.
        say: Told what is being done.

    Raises:
        ValueError: If ``split`` is unknown, ``images`` is below 1, or ``distilled`` is empty.
        OSError: If the page cannot be written.
    """
    if split not in SPLITS:
        raise ValueError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
    if images < 1:
        raise ValueError(f'images must be at least 1, got {images}')
    if not distilled:
        raise ValueError('distilled must name the work_dir of a distillation at least')
    out = Path(out)
    _check_writable(out)
    report = Report(_entrants(distilled, plain, teacher), split, command)
    for entrant in report.entrants:
        report.faults.extend(entrant.run.faults)
    if teacher is None and report.entrants[0].config is None:
        report.entrants.pop(0)
    if plain is None:
        report.faults.append('no plain student was given, so nothing tells what distillation gained')
    for entrant in report.entrants:
        _measure(report, entrant, device, images, trust_checkpoint, say)
    say('latency and multiply-adds')
    _add_costs(report)
    say('pictures')
    _add_predictions(report)
    _add_knowledge(report)
    _add_curves(report)
    _write(out, render(report))
    return report


def _entrants(distilled: Sequence[str | Path], plain: str | Path | None, teacher: str | Path | None) -> list[Entrant]:
    taught = [read_run(folder, _title(folder, distilled)) for folder in distilled]
    if teacher is not None:
        first = Entrant(TEACHER, 'teacher', GREY, read_run(teacher, TEACHER))
    else:
        first = Entrant(TEACHER, 'teacher', GREY, _teacher_of(taught[0]))
    entrants = [first]
    if plain is not None:
        entrants.append(Entrant(PLAIN, 'plain', PALETTE[0], read_run(plain, PLAIN)))
    colours = (PALETTE[1 + index % (len(PALETTE) - 1)] for index in range(len(taught)))
    entrants.extend(Entrant(run.title, 'distilled', colour, run) for run, colour in zip(taught, colours, strict=True))
    for entrant in entrants:
        config = entrant.run.config
        entrant.config = plain_config(config) if config is not None and 'model' in config else None
    return entrants


def _title(folder: str | Path, all_of_them: Sequence[str | Path]) -> str:
    if len(all_of_them) == 1:
        return 'distilled student'
    names = [Path(one).name for one in all_of_them]
    return Path(folder).name if names.count(Path(folder).name) == 1 else str(folder)


def _teacher_of(run: Run) -> Run:
    """Return what a distillation's config says of its teacher, of the first if there are several."""
    if run.config is None:
        return Run(TEACHER, run.folder)
    if not is_distiller(run.config.get('model', {'type': ''})):
        return Run(TEACHER, run.folder, faults=[f'{run.title}: its config names no teacher to show beside it'])
    named = run.config.model.get('teacher') or {}
    named = named if 'config' in named else next(iter(named.values()), {})
    checkpoint = Path(named['checkpoint']) if named.get('checkpoint') else None
    try:
        config = _whole(read_config(named['config'], TEACHER))
    except Exception as error:  # a config is code, which may fail in any way
        return Run(TEACHER, run.folder, faults=[f'{TEACHER}: its config cannot be read: {error}'])
    faults = [] if checkpoint else [f'{TEACHER}: {run.title} was taught without a checkpoint of a teacher']
    return Run(TEACHER, run.folder, config, None, checkpoint, faults=faults)


def _whole(config: Mapping[str, Any]) -> Config:
    """Return a whole config: a teacher's may be that of its model alone."""
    if isinstance(config, Config):
        return config
    return Config(config if 'model' in config else dict(model=config))


def _measure(report: Report, entrant: Entrant, device: str, images: int, trust: bool, say: Say) -> None:
    """Load a model and measure it; what its log says stands in where that fails."""
    logged = entrant.run.metrics()
    if logged:
        entrant.evaluation, entrant.logged = Evaluation(logged), True
    if entrant.config is None or entrant.run.checkpoint is None:
        return
    what = 'loaded'
    try:
        model = load_model(entrant.config, str(entrant.run.checkpoint), trust, entrant.title)
        entrant.model = model.to(device)
        what = f'measured on the {report.split} images'
        loader = build_loader(entrant.config, report.split)
        entrant.examples = examples_of(loader.dataset, images)

        def progress(done: int, count: int) -> None:
            say(f'{entrant.title}: {report.split} batch {done} of {count}')

        entrant.evaluation = evaluate(entrant.model, entrant.config, report.split, progress, loader)
        entrant.logged = False
    except Exception as error:  # data sets and models of any library may fail in any way: the rest is still shown
        report.faults.append(f'{entrant.title}: could not be {what}: {_first_line(error)}')


def _first_line(error: Exception) -> str:
    text = next(iter(str(error).splitlines()), '')
    return text if isinstance(error, (ValueError, FileNotFoundError)) else f'{type(error).__name__} {text}'.strip()


def _at_work(report: Report) -> list[Entrant]:
    """Return the entrants whose model and images are there."""
    return [entrant for entrant in report.entrants if entrant.model is not None and entrant.examples]


def _add_costs(report: Report) -> None:
    able = _at_work(report)
    try:
        costs = measure_costs(
            {entrant.title: entrant.model for entrant in able if entrant.model is not None},
            {entrant.title: entrant.examples[0] for entrant in able},
        )
    except Exception as error:  # as in _measure
        report.faults.append(f'what the models cost could not be measured: {_first_line(error)}')
        return
    for entrant in able:
        entrant.costs = costs[entrant.title]


def _add_predictions(report: Report) -> None:
    able = _at_work(report)
    for index, example in enumerate(able[0].examples if able else []):
        try:
            row = [Figure('ground truth', picture_source(example.truth()))]
            for entrant in able:
                assert entrant.model is not None
                with torch.no_grad():
                    picture = entrant.examples[index].prediction(entrant.model)
                row.append(Figure(entrant.title, picture_source(picture)))
        except Exception as error:  # as in _measure
            report.faults.append(f'{example.name}: predictions could not be drawn: {_first_line(error)}')
            continue
        report.predictions.append((example.name, row))


def _add_knowledge(report: Report) -> None:
    """Show what was distilled, as teacher, untrained, plain and distilled student show it."""
    able = _at_work(report)
    taught = next((entrant for entrant in able if entrant.role == 'distilled'), None)
    if taught is None or taught.run.config is None or not is_distiller(taught.run.config.model):
        return
    objectives = taught.run.config.model.get('objectives') or {}
    models = {entrant.title: (entrant, entrant.model) for entrant in able if entrant.role == 'teacher'}
    untrained = _untrained(report, taught)
    if untrained is not None:
        models['student before training'] = (taught, untrained)
    models.update({entrant.title: (entrant, entrant.model) for entrant in able if entrant.role != 'teacher'})
    for index, example in enumerate(taught.examples):
        try:
            shown = {
                title: look(
                    build_view(model, entrant.title),
                    entrant.examples[index].batch(),
                    objectives,
                    'teacher' if entrant.role == 'teacher' else 'student',
                )
                for title, (entrant, model) in models.items()
                if model is not None
            }
        except Exception as error:  # as in _measure
            report.faults.append(f'what was distilled could not be shown: {_first_line(error)}')
            return
        pictures = {title: one.draw_energy(example.image) for title, one in shown.items()}
        report.energies.append((example.name, _figures(pictures)))
        report.pairs.extend(_pairs(example, shown))


def _untrained(report: Report, entrant: Entrant) -> nn.Module | None:
    if entrant.config is None or entrant.model is None:
        return None
    seed = entrant.run.environment.get('seed', '0')
    try:
        with forked_random_state():
            set_random_seed(int(seed) if seed.isdigit() else 0)
            return build_model(entrant.config).to(next(entrant.model.parameters()).device)
    except Exception as error:  # weights that it starts from may be a download
        report.faults.append(f'the student before training cannot be shown: {_first_line(error)}')
        return None


def _pairs(example: Example, shown: Mapping[str, Knowledge]) -> list[tuple[str, list[Figure]]]:
    """Return a row of affinities, if an objective compares pairs: to one place, that which tells most in the teacher."""
    known = {title: one for title, one in shown.items() if one.affinities is not None}
    reference = known.get(TEACHER)
    if reference is None or reference.affinities is None:
        return []
    place = reference.most_telling_place()
    figures = []
    for title, one in known.items():
        distance = one.distance(reference)
        caption = title if one is reference or distance is None else f'{title}, {distance:.3f} from the teacher'
        figures.append(
            Figure(caption, picture_source(one.draw_affinities(example.image, one.nearest(place, reference))))
        )
    return [(example.name, figures)]


def _figures(pictures: Mapping[str, np.ndarray]) -> list[Figure]:
    return [Figure(title, picture_source(picture)) for title, picture in pictures.items()]


def _add_curves(report: Report) -> None:
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


def _check_writable(out: Path) -> None:
    """Fail before minutes of measuring, not after."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _write(out.with_name(f'.{out.name}.probe'), '')
    out.with_name(f'.{out.name}.probe').unlink()


def _write(out: Path, text: str) -> None:
    unfinished = out.with_name(f'{out.name}.tmp')
    unfinished.write_text(text, encoding='utf-8')
    unfinished.replace(out)

"""The report: teacher, plain student and distilled student side by side, in one HTML page that needs no network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from kddense.training.quantised import drop_quantising, quantises

from .comparisons import add_knowledge, add_predictions
from .contents import Entrant, Report, first_line
from .costs import measure_costs
from .entrants import read_entrants
from .evaluation import SPLITS, Evaluation, build_loader, evaluate, load_model
from .examples import examples_of
from .gains import add_comparisons
from .page import render
from .training_curves import add_curves

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
    plain_same_time: str | Path | None = None,
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
        trust_checkpoint: See :class:`kddense.FrozenTeacher`.
        command: How to make the page again.
        say: Told what is being done.
        plain_same_time: The work_dir of a plain student that trained as long by the clock as the distilled one.

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
    report = Report(read_entrants(distilled, plain, teacher, plain_same_time), split, command)
    for entrant in report.entrants:
        report.faults.extend(entrant.run.faults)
    if teacher is None and report.entrants[0].config is None:
        report.entrants.pop(0)
    if plain is None:
        report.faults.append('no plain student was given, so nothing tells what distillation gained')
    for entrant in report.entrants:
        _measure(report, entrant, device, images, trust_checkpoint, say)
    say('latency and multiply-adds')
    _add_costs(report, trust_checkpoint)
    say('intervals')
    add_comparisons(report)
    say('pictures')
    add_predictions(report)
    add_knowledge(report)
    add_curves(report)
    _write(out, render(report))
    return report


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
        report.faults.append(f'{entrant.title}: could not be {what}: {first_line(error)}')


def _add_costs(report: Report, trust: bool) -> None:
    able = report.at_work()
    try:
        costs = measure_costs(
            {entrant.title: _in_float(entrant, trust) for entrant in able},
            {entrant.title: entrant.examples[0] for entrant in able},
        )
    except Exception as error:  # as in _measure
        report.faults.append(f'what the models cost could not be measured: {first_line(error)}')
        return
    for entrant in able:
        entrant.costs = costs[entrant.title]


def _in_float(entrant: Entrant, trust: bool) -> nn.Module:
    """Return what is timed: a model of few bits computes them in float, which takes longer than either."""
    assert entrant.config is not None
    assert entrant.model is not None
    if not quantises(entrant.config):
        return entrant.model
    config = copy.deepcopy(entrant.config)
    drop_quantising(config)
    model = load_model(config, str(entrant.run.checkpoint), trust, entrant.title)
    return model.to(next(entrant.model.parameters()).device)


def _check_writable(out: Path) -> None:
    """Fail before minutes of measuring, not after."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _write(out.with_name(f'.{out.name}.probe'), '')
    out.with_name(f'.{out.name}.probe').unlink()


def _write(out: Path, text: str) -> None:
    unfinished = out.with_name(f'{out.name}.tmp')
    unfinished.write_text(text, encoding='utf-8')
    unfinished.replace(out)

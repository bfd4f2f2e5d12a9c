"""The contents of a report, before they are a page."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmengine.config import Config
from torch import nn

from kddense.training.runs import Run

from .costs import RunningCosts
from .evaluation import Evaluation
from .examples import Example
from .figure import Figure
from .metrics import Metric, in_order


@dataclass
class Entrant:
    """One column of the report.

    Attributes:
        title: How it is called.
        role: ``'teacher'``, ``'plain'`` or ``'distilled'``.
        colour: Of its curves.
        run: What its work_dir tells.
        config: The config of the model itself, without a teacher; ``None`` if it is not known.
        model: The trained model; ``None`` if it could not be built.
        logged: Whether its figures are those of the last validation in its log.
        evaluation: What it measured now, or else in its log.
        costs: What it costs to run.
    """

    title: str
    role: str
    colour: str
    run: Run
    config: Config | None = None
    model: nn.Module | None = None
    logged: bool = False
    evaluation: Evaluation | None = None
    costs: RunningCosts | None = None
    examples: list[Example] = field(default_factory=list)

    def metric(self, key: str) -> float | None:
        """Return what it measured of a metric, if it did."""
        return self.evaluation.metrics.get(key) if self.evaluation else None


@dataclass
class Report:
    """What the page shows.

    Attributes:
        entrants: The columns: teacher, plain student, distilled students.
        split: What was measured on, ``'val'`` or ``'test'``.
        command: How to make the page again.
        faults: What is missing or amiss, a sentence each.
        predictions: For each image a row: ground truth, then what each model predicts.
        energies: For each image a row: feature energy of teacher, untrained and trained students.
        pairs: For each image a row of affinities.
        curves: Figures by the heading that they stand under.
    """

    entrants: list[Entrant]
    split: str
    command: str
    faults: list[str] = field(default_factory=list)
    predictions: list[tuple[str, list[Figure]]] = field(default_factory=list)
    energies: list[tuple[str, list[Figure]]] = field(default_factory=list)
    pairs: list[tuple[str, list[Figure]]] = field(default_factory=list)
    curves: dict[str, list[Figure]] = field(default_factory=dict)

    @property
    def metrics(self) -> list[Metric]:
        """What was measured, the one that counts most first."""
        return in_order(key for entrant in self.entrants if entrant.evaluation for key in entrant.evaluation.metrics)

    @property
    def size(self) -> str:
        """Width and height of the image that latency was measured on."""
        examples = next((entrant.examples for entrant in self.entrants if entrant.examples), [])
        return f'{examples[0].image.shape[1]}x{examples[0].image.shape[0]}' if examples else ''

    @property
    def plain(self) -> Entrant | None:
        """The plain student, if there is one."""
        return next((entrant for entrant in self.entrants if entrant.role == 'plain'), None)

    def at_work(self) -> list[Entrant]:
        """Return the entrants whose model and images are there."""
        return [entrant for entrant in self.entrants if entrant.model is not None and entrant.examples]

    def summary(self) -> list[str]:
        """Return a line for each model, for a terminal."""
        return [self._line(entrant) for entrant in self.entrants]

    def _line(self, entrant: Entrant) -> str:
        parts = [f'{entrant.title:<18}']
        if self.metrics:
            headline = self.metrics[0]
            parts.append(f'{headline.written(entrant.metric(headline.key)):>6} {headline.label}')
            if entrant.role == 'distilled' and self.plain is not None:
                gain = headline.gain(self.plain.metric(headline.key), entrant.metric(headline.key))
                parts.append(f'({gain})' if gain else '')
        if entrant.costs is not None:
            parts.append(f'{entrant.costs.parameters / 1e6:.2f} M parameters, {entrant.costs.latency:.0f} ms an image')
        return '  '.join(part for part in parts if part)


def first_line(error: Exception) -> str:
    """Return the first line of an error, with its type unless that says nothing to a reader."""
    text = next(iter(str(error).splitlines()), '')
    return text if isinstance(error, (ValueError, FileNotFoundError)) else f'{type(error).__name__} {text}'.strip()

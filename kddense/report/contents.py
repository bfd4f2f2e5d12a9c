"""The contents of a report, before they are a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmengine.config import Config
from torch import nn

from kddense.training.runs import Run

from .costs import RunningCosts
from .evaluation import Evaluation
from .examples import Example
from .figure import Figure
from .metrics import Metric, in_order

if TYPE_CHECKING:
    from .gains import Comparison


@dataclass
class Entrant:
    """One column of the report.

    Attributes:
        title: How it is called.
        role: ``'teacher'``, ``'plain'``, ``'same time'`` (a plain student that trained as long by the clock) or
            ``'distilled'``.
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
        comparisons: Each distilled student beside the plain ones.
        predictions: For each image a row: ground truth, then what each model predicts.
        energies: For each image a row: feature energy of teacher, untrained and trained students.
        pairs: For each image a row of affinities.
        curves: Figures by the heading that they stand under.
    """

    entrants: list[Entrant]
    split: str
    command: str
    faults: list[str] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    predictions: list[tuple[str, list[Figure]]] = field(default_factory=list)
    energies: list[tuple[str, list[Figure]]] = field(default_factory=list)
    pairs: list[tuple[str, list[Figure]]] = field(default_factory=list)
    curves: dict[str, list[Figure]] = field(default_factory=dict)

    @property
    def metrics(self) -> list[Metric]:
        """What was measured, the one that counts most first."""
        return in_order(key for entrant in self.entrants if entrant.evaluation for key in entrant.evaluation.metrics)

    @property
    def measure(self) -> str:
        """What is measured by class, such as ``'IoU'``; empty if nothing is."""
        found = (one.evaluation for one in self.entrants if one.evaluation and one.evaluation.by_class)
        return next((evaluation.measure for evaluation in found), '')

    @property
    def size(self) -> str:
        """Width and height of the image that latency was measured on."""
        examples = next((entrant.examples for entrant in self.entrants if entrant.examples), [])
        return f'{examples[0].image.shape[1]}x{examples[0].image.shape[0]}' if examples else ''

    @property
    def plain(self) -> Entrant | None:
        """The plain student, if there is one."""
        return self._first('plain')

    @property
    def same_time(self) -> Entrant | None:
        """The plain student that trained as long by the clock, if there is one."""
        return self._first('same time')

    def _first(self, role: str) -> Entrant | None:
        return next((entrant for entrant in self.entrants if entrant.role == role), None)

    def comparison(self, entrant: Entrant, against: Entrant | None) -> Comparison | None:
        """Return how a student stands beside another."""
        pairs = (one for one in self.comparisons if one.entrant is entrant and one.against is against)
        return next(pairs, None)

    @property
    def legend(self) -> dict[str, str]:
        """Colours of the classes in the pictures, as CSS has them."""
        examples = next((entrant.examples for entrant in self.entrants if entrant.examples), [])
        return {name: colour for example in examples for name, colour in example.legend().items()}

    @property
    def shows_depth(self) -> bool:
        """Whether the pictures show depths."""
        return any(example.depth is not None for entrant in self.entrants for example in entrant.examples)

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
            against = self.comparison(entrant, self.plain)
            if against is not None and headline.key in against.gains:
                parts.append(_in_brackets(against, headline.key))
        if entrant.costs is not None:
            parts.append(f'{entrant.costs.parameters / 1e6:.2f} M parameters, {entrant.costs.latency:.0f} ms an image')
        return '  '.join(part for part in parts if part)


def _in_brackets(comparison: Comparison, key: str) -> str:
    gain = comparison.gains[key]
    if not gain.text:
        return ''
    if comparison.unequal:
        return f'({gain.text}, not a fair comparison: {"; ".join(comparison.unequal)})'
    return f'({gain.text}, 95 % of draws {gain.span})' if gain.span else f'({gain.text})'


def first_line(error: Exception) -> str:
    """Return the first line of an error, with its type unless that says nothing to a reader."""
    text = next(iter(str(error).splitlines()), '')
    return text if isinstance(error, (ValueError, FileNotFoundError)) else f'{type(error).__name__} {text}'.strip()

"""What of a question can be kept, and heads that answer the rest from what is kept of the parts before them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from kddense.exchange import Question, ViewError
from kddense.taps import Recording, Tap, shadowed
from kddense.views import ModelView

FEATURES = 'extract_feat()'  # the tap of what every head of a model of OpenMMLab is given


@dataclass(frozen=True)
class Division:
    """A question, divided.

    Attributes:
        fixed: What is about images alone: its answer is kept.
        sampled: The rest, about samples of the student: heads answer it each time.
        parts: Taps of what these heads are given, or say of whole images: their values are kept.
    """

    fixed: Question
    sampled: Question | None = None
    parts: tuple[str, ...] = ()

    @property
    def what(self) -> list[list[str]]:
        """What is kept, as plain data."""
        return [sorted(self.fixed.taps), sorted(self.fixed.opinions), list(self.parts)]


def divide(question: Question, view: ModelView) -> Division:
    """Divide a question.

    Raises:
        ViewError: If its answer depends on what the student does in other ways than by samples.
    """
    if question.gradients:
        raise ViewError("gradients of the teacher's own losses, which depend on the labels of the whole batch")
    taps = frozenset(tap for tap in question.taps if view.kinds_behind([tap]))
    opinions = question.opinions & view.sampled_kinds
    fixed = Question(question.taps - taps, opinions=question.opinions - opinions)
    kinds = opinions | view.kinds_behind(taps)
    if not kinds:
        return Division(fixed)
    parts = view.sources_of(kinds)
    if not parts:
        raise ViewError(f"what it says of the student's samples ({', '.join(sorted(kinds))})")
    return Division(fixed, replace(question, taps=taps, opinions=opinions), tuple(parts))


def heard_at(parts: tuple[str, ...], recording: Recording) -> dict[str, Any]:
    """Return the values of parts: what they returned."""
    return {part: recording[part].result if part.endswith('()') else recording[part] for part in parts}


@contextmanager
def playing(model: Any, parts: Mapping[str, Any]) -> Iterator[None]:
    """Context manager: parts of a model return what is given, and none before them runs."""
    with ExitStack() as stack:
        for text, value in {FEATURES: (), **parts}.items():
            tap = Tap.parse(text)
            stack.enter_context(shadowed(model.get_submodule(tap.path), tap.method, _returning(value)))
        yield


def _returning(value: Any) -> Callable[[Callable], Callable]:
    return lambda _: lambda *args, **kwargs: value

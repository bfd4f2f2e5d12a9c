"""What every model shows: the values at its taps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kddense.random_state import forked_random_state
from kddense.taps import Recording, Tap, TapError, Taps, map_tensors, tensors_of


class ViewError(ValueError):
    """A model that cannot show what an objective needs, or two models that do not speak about the same things."""


@dataclass(frozen=True)
class Question:
    """What a teacher is asked: values at taps, and opinions on the student's own samples.

    Attributes:
        taps: Places to listen to, see :mod:`kddense.taps`.
        samples: The student's samples by kind (``'rpn'``, ``'roi'``), one per head of that kind.
        opinions: The kinds whose opinions an objective needs; a sample may also be there for a tap alone.
    """

    taps: frozenset[str] = frozenset()
    samples: Mapping[str, list[Any]] = field(default_factory=dict)
    opinions: frozenset[str] = frozenset()

    def rescaled(self, scale: float) -> Question:
        """Return the question about an image ``scale`` times as large."""
        if scale == 1:
            return self
        samples = {kind: [sample.rescaled(scale) for sample in group] for kind, group in self.samples.items()}
        return Question(self.taps, samples, self.opinions)


@dataclass(frozen=True)
class Answer:
    """What a model showed in one step.

    Attributes:
        taps: Value by tap; a list if the part ran several times.
        samples: What was sampled, by kind: the boxes and their targets (a student only).
        opinions: What the model's heads say about them, by kind.
    """

    taps: Mapping[str, Any]
    samples: Mapping[str, list[Any]] = field(default_factory=dict)
    opinions: Mapping[str, list[Any]] = field(default_factory=dict)


class ModelView:
    """Any model with a ``backbone``, perhaps a ``neck``, and heads; or one with a ``mode='tensor'`` forward.

    Args:
        model: The model to look at. It is not changed.
        owner: How messages call it.
        input_scale: Size of the image that it sees, relative to the student's.
        class_map: For every class of the student the one of this model that it is, by index; the same ones by default.

    Attributes:
        kinds: The kinds of knowledge that the family shows.
        sampled_kinds: Those of them that a teacher cannot give before it is told what the student sampled.
    """

    kinds: frozenset[str] = frozenset()
    sampled_kinds: frozenset[str] = frozenset()

    def __init__(
        self, model: nn.Module, owner: str, input_scale: float = 1.0, class_map: Sequence[int] | None = None
    ) -> None:
        self.model: Any = model  # a class of another library
        self.owner = owner
        self.input_scale = input_scale
        self.class_map = None if class_map is None else list(class_map)

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """Tell whether ``model`` belongs to this family."""
        return True

    def check(self, kind: str) -> None:
        """Raise a :class:`ViewError` if this model cannot show knowledge of ``kind``."""
        what = KINDS.get(kind, f"knowledge of the kind '{kind}'")
        raise ViewError(f'{self.owner} ({type(self.model).__name__}) has no {what}')

    def check_teacher(self, kind: str) -> None:
        """Raise a :class:`ViewError` if this model, as a teacher, cannot give its opinion of ``kind``."""
        self.check(kind)

    def _check_class_map(self, classes: int) -> None:
        if self.class_map is not None and not all(0 <= index < classes for index in self.class_map):
            raise ViewError(f'{self.owner}.class_map must name classes in 0..{classes - 1}, got {self.class_map}')

    def is_sigmoid(self, kind: str) -> bool:
        """Tell whether the heads of ``kind`` decide each class on its own."""
        return False

    def differences(self, teacher: ModelView, kind: str) -> list[str]:
        """List the fields in which a teacher's ``kind`` of knowledge is not about the same things as this model's."""
        return []

    def kinds_behind(self, taps: Iterable[str]) -> frozenset[str]:
        """Return the kinds of samples without which the parts at ``taps`` cannot run."""
        return frozenset()

    @contextmanager
    def without_labels(self, data_samples: Sequence[Any]) -> Iterator[None]:
        """Leave the images that are marked ``unlabelled`` out of the losses of this model, as a student, for a while."""
        if any(is_unlabelled(sample) for sample in data_samples):
            raise ViewError(
                f'{self.owner} ({type(self.model).__name__}) cannot learn from unlabelled images: it is no segmentor'
            )
        yield

    def listening(self, taps: Iterable[str], kinds: Iterable[str]) -> Taps:
        """Return the taps to hold open while this model, as a student, runs its own loss."""
        own = {tap for kind in kinds for tap in self.taps_of(kind)}
        return Taps(self.model, own.union(taps), self.owner)

    def taps_of(self, kind: str) -> list[str]:
        """Return the taps from which :meth:`read_kind` reads."""
        return []

    def read(self, recording: Recording, taps: Iterable[str], kinds: Iterable[str]) -> Answer:
        """Make an answer of what was heard while this model, as a student, ran its own loss."""
        read = {kind: self.read_kind(kind, recording) for kind in kinds}
        return Answer(
            taps={tap: recording[tap] for tap in taps},
            samples={kind: samples for kind, (samples, _) in read.items()},
            opinions={kind: opinions for kind, (_, opinions) in read.items()},
        )

    def read_kind(self, kind: str, recording: Recording) -> tuple[list[Any], list[Any]]:
        """Return the samples and this model's own opinions on them, one of each per head."""
        raise KeyError(kind)

    def answer(self, question: Question, images: Tensor, covered: Sequence[int] | None = None) -> Answer:
        """Run what the question asks about, as a teacher: no losses, no NMS, no head that nobody listens to.

        Args:
            question: Taps and samples.
            images: Inputs in this model's own format.
            covered: Height and width of the part that the student's inputs cover, all of it by default; maps of the
                image are cut to it.

        Returns:
            Values in float32.
        """
        with Taps(self.model, question.taps, self.owner) as recording:
            opinions = self.run(question, images)
        taps = {tap: map_tensors(in_float32, recording[tap]) for tap in question.taps}
        if covered is not None and tuple(covered) != tuple(images.shape[-2:]):
            for tap in taps.keys() - set(filter(lambda tap: self.kinds_behind([tap]), taps)):
                taps[tap] = map_tensors(lambda value: cut_to(value, images.shape[-2:], covered), taps[tap])
        return Answer(taps=taps, opinions=opinions)

    def parts_of(self, kinds: Iterable[str]) -> set[str]:
        """Return the children of the model that have to run for opinions of these kinds."""
        return set()

    def run(self, question: Question, images: Tensor) -> dict[str, list[Any]]:
        """Run the children of the model that the question is about and what they need; return the opinions asked for."""
        parts = {Tap.parse(tap).path.partition('.')[0] for tap in question.taps} | self.parts_of(question.opinions)
        if not hasattr(self.model, 'backbone'):
            self.model(images, None, mode='tensor')
            return {}
        if parts <= {'backbone'}:
            self.model.backbone(images)
            return {}
        features = self.model.extract_feat(images)
        opinions: dict[str, list[Any]] = {}
        for part in sorted(parts - {'', 'backbone', 'neck'}):
            opinions.update(self.run_head(part, features, question))
        return opinions

    def run_head(self, part: str, features: Any, question: Question) -> dict[str, list[Any]]:
        """Run one head on the features."""
        getattr(self.model, part)(features)
        return {}

    def probe_samples(self, kinds: Iterable[str]) -> dict[str, list[Any]]:
        """Return made-up samples with which :meth:`probe` can run the parts that need some."""
        return {}

    def probe(self, taps: Iterable[str], size: int = 64) -> dict[str, list[Tensor]]:
        """Run a tiny blank batch and return the tensors at each tap: their channels are known from then on.

        The model comes out as it went in: modes, statistics and random numbers.

        Raises:
            TapError: If a tap does not exist, or is not in a part that this view runs.
        """
        taps = frozenset(taps)
        answer = self._probe(Question(taps, self.probe_samples(self.kinds_behind(taps))), size)
        values = {tap: list(tensors_of(value)) for tap, value in answer.taps.items()}
        for tap, tensors in values.items():
            if not tensors:
                raise TapError(f"tap '{tap}' of the {self.owner} holds no tensor")
        return values

    def probe_opinions(self, kind: str, size: int = 64) -> list[Any]:
        """Run a tiny blank batch and return what the heads say about it, as :meth:`probe` does for taps."""
        return list(self._probe(Question(opinions=frozenset({kind})), size).opinions[kind])

    def _probe(self, question: Question, size: int) -> Answer:
        try:
            return self._probe_with(question, size)
        except RuntimeError:  # some heads pool over a window larger than so small a map, LRASPP for one
            return self._probe_with(question, 8 * size)

    @torch.no_grad()
    def _probe_with(self, question: Question, size: int) -> Answer:
        weight = next(self.model.parameters())
        images = weight.new_zeros(1, 3, size, size)
        with in_eval_mode(self.model), forked_random_state(), _runnable(self.model):
            return self.answer(question, images.to(self.image_dtype()))

    def image_dtype(self) -> torch.dtype:
        """Return the type that this model's layers take now."""
        convolution = next((m for m in self.model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))), None)
        return convolution.weight.dtype if convolution is not None else torch.float32


KINDS = {
    'rpn': 'region proposal network; only two-stage detectors have one',
    'roi': 'RoI head; only two-stage detectors have one',
    'pixels': 'pixel classifier; only segmentors have one',
    'auxiliary': 'auxiliary head; some segmentors have one',
    'dense': 'dense head; only one-stage detectors have one',
    'scores': 'dense head; only one-stage detectors have one',
}


def is_a(value: Any, name: str) -> bool:
    """Tell a class of mmdet or mmseg by its name, so that the library need not be installed."""
    return any(base.__name__ == name for base in type(value).__mro__)


def is_unlabelled(sample: Any) -> bool:
    """Tell whether a data sample is of an image that has no labels."""
    return bool(sample.metainfo.get('unlabelled', False))


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode for a while; each of its modules is in its own mode again afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _runnable(model: nn.Module) -> Iterator[None]:
    """Widen float16 weights on a CPU for a while: PyTorch before 2.3 cannot convolve with them there."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    halves = [tensor for tensor in tensors if tensor.dtype == torch.float16 and tensor.device.type == 'cpu']
    for tensor in halves:
        tensor.data = tensor.data.float()
    try:
        yield
    finally:
        for tensor in halves:
            tensor.data = tensor.data.half()


def in_float32(value: Tensor) -> Tensor:
    """Return a value in float32 and in the plain memory format."""
    return value.to(torch.float32, memory_format=torch.contiguous_format) if value.is_floating_point() else value


def cut_to(value: Tensor, image: Sequence[int], covered: Sequence[int]) -> Tensor:
    """Cut a map of an image to what its covered part alone would have given."""
    if value.dim() != 4:
        return value
    height, width = map(_covered_cells, value.shape[-2:], image, covered)
    return value[..., :height, :width].contiguous()


def _covered_cells(cells: int, pixels: int, covered: int) -> int:
    """Return how many cells a network that makes ``cells`` of ``pixels`` makes of ``covered`` pixels."""
    stride: float = 2 ** round(math.log2(pixels / cells))
    if math.ceil(pixels / stride) != cells:  # not a power of two
        stride = pixels / cells
    return min(math.ceil(round(covered / stride, 6)), cells)

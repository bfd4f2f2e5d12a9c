"""What every model shows: the values at its taps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kddense.exchange import Answer, Batch, ImageFormat, Question, ViewError
from kddense.taps import Recording, Tap, TapError, Taps, map_tensors, tensors_of

from ._models import divided, explain, speakers
from .alignment import cut_to, in_float32, map_of_patches
from .partial import check_labels
from .probing import blank_batches, explained, run_on_blank


class ModelView:
    """Any model with a ``backbone``, perhaps a ``neck``, and heads; or any other module.

    Args:
        model: The model to look at. It is not changed.
        owner: How messages call it.
        input_scale: Size of the image that it sees, relative to the student's.
        class_map: For every class of the student this model's, by index, ``None`` where it has none; the same by default.
        image_format: How its inputs are made of images; read off its data preprocessor by default.
        frozen: Whether it is a teacher's: then deep copies share it.
        patch_size: Of a transformer, height and width of a patch in pixels: its tokens are then shown as maps.
        stretched: Whether it is given images of one size alone, into which the student's are stretched.

    Attributes:
        explains: What messages call each kind of knowledge that the family shows.
        sampled_kinds: Those of them that a teacher cannot give before it is told what the student sampled.
        shows_depth: Whether its heads estimate depth.
        class_map: Its classes that are some of the student's, in their order; ``None`` without one.
        known_classes: Which of the student's classes those are, ascending; ``None`` for all.
        mapped_classes: The length of the ``class_map`` that was given; ``None`` without one.
        is_stretched: Whether its maps end where the student's image does, and not where their last cell does.
        norms: Norm layers as they were trained, by path, of a model that has folded them into its convolutions.
    """

    explains: Mapping[str, str] = {}
    sampled_kinds: frozenset[str] = frozenset()
    shows_depth = False

    def __init__(
        self,
        model: nn.Module,
        owner: str,
        input_scale: float = 1.0,
        class_map: Sequence[int | None] | None = None,
        image_format: ImageFormat | None = None,
        frozen: bool = False,
        patch_size: int | None = None,
        stretched: bool = False,
    ) -> None:
        self.model: Any = model  # a class of another library
        self.owner = owner
        self.input_scale = input_scale
        self.class_map, self.known_classes = divided(class_map)
        self.mapped_classes = None if class_map is None else len(class_map)
        self.image_format = image_format or ImageFormat.of(getattr(model, 'data_preprocessor', None))
        self.frozen = frozen
        self.patch_size = patch_size
        self.is_stretched = stretched
        self.norms: dict[str, nn.Module] = {}
        self._speakers: list[nn.Module] = speakers(model)

    def __deepcopy__(self, memo: dict[int, Any]) -> ModelView:
        if self.frozen:
            return self
        other = object.__new__(type(self))
        memo[id(self)] = other
        other.__dict__.update({key: copy.deepcopy(value, memo) for key, value in self.__dict__.items()})
        return other

    @property
    def cells(self) -> dict[str, Any]:
        """Where the cells of its maps lie, as :func:`kddense.connectors.match_size` is told of a teacher."""
        return dict(patch=self.patch_size, scale=self.input_scale, stretched=self.is_stretched)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of knowledge that the family shows."""
        return frozenset(self.explains)

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """Tell whether ``model`` belongs to this family."""
        return True

    def look_at(self, model: nn.Module) -> None:
        """Look at another model of the same architecture from now on."""
        self.model = model
        self._speakers = speakers(model)

    def norm_at(self, path: str) -> nn.Module:
        """Return a norm layer with its trained weights and statistics, also where it was folded into a convolution."""
        return self.norms.get(path) or self.model.get_submodule(path)

    def check(self, kind: str) -> None:
        """Raise a :class:`ViewError` if this model cannot show knowledge of ``kind``."""
        raise ViewError(f'{self.owner} ({type(self.model).__name__}) has no {explain(kind)}')

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

    def differences_from(self, student: ModelView, kind: str) -> list[str]:
        """List the same as :meth:`differences`, asked of the teacher's view: an ensemble asks all its members."""
        return student.differences(self, kind)

    def kinds_behind(self, taps: Iterable[str]) -> frozenset[str]:
        """Return the kinds of samples without which the parts at ``taps`` cannot run."""
        return frozenset()

    def sources_of(self, kinds: Iterable[str]) -> list[str]:
        """Return taps about images of whose values and the samples these sampled opinions are made; none if unknown."""
        return []

    @contextmanager
    def without_labels(self, data_samples: Sequence[Any], kinds: Iterable[str] = ()) -> Iterator[None]:
        """Context manager: the student's losses ignore images that are marked ``unlabelled``, which still show ``kinds``."""
        check_labels(data_samples, self.owner, self.model)
        yield

    def check_images(self, data_samples: Sequence[Any], kinds: Iterable[str]) -> None:
        """Raise a :class:`ViewError` if images of a batch do not let this model, as the student, show some kinds."""

    def learn(self, run: Callable[..., Any], batch: Batch, taps: Iterable[str], kinds: Iterable[str]) -> Answer:
        """Run the model's own loss, as the student.

        Args:
            run: The model itself, or what wraps it.
            batch: What it is given.
            taps: Places to listen to.
            kinds: Kinds of knowledge to show.

        Returns:
            What it showed on the way, with gradients, the batch and its own losses.
        """
        with self.without_labels(batch.data_samples, kinds), self.listening(taps, kinds) as recording:
            losses = run(batch.inputs, batch.data_samples, mode='loss')
        return replace(self.read(recording, taps, kinds), batch=batch, losses=losses)

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
            unbound=frozenset(tap for tap in taps if self.kinds_behind([tap])),
        )

    def read_kind(self, kind: str, recording: Recording) -> tuple[list[Any], list[Any]]:
        """Return the samples and this model's own opinions on them, one of each per head."""
        raise KeyError(kind)

    def answer(self, question: Question, images: Tensor, covered: Sequence[int] | None = None) -> Answer:
        """Run what the question asks about, as a teacher: no losses, no NMS, no head that nobody listens to.

        Heads speak as in training, their layers are in eval mode: some return another quantity otherwise.
        Values are in float32.

        Args:
            question: Taps and samples.
            images: Inputs in this model's own format, ``(N, C, H, W)``.
            covered: Height and width of what the student's inputs cover, all by default; maps are cut to it.
        """
        whole = question.taps & {''}
        with Taps(self.model, question.taps - whole, self.owner) as recording, self.as_in_training():
            opinions = self.run(replace(question, taps=question.taps - whole), images)
        taps = {tap: recording[tap] for tap in question.taps - whole}
        if whole:
            with self.as_in_training():
                taps[''] = self.run_whole(images)
        unbound = frozenset(tap for tap in taps if self.kinds_behind([tap]))
        size = images.shape[-2:]

        def fit(value: Tensor) -> Tensor:
            value = map_of_patches(in_float32(value), size, self.patch_size)
            return cut_to(value, size, covered or size, self.image_format.size_divisor)

        return Answer(
            taps={tap: map_tensors(in_float32 if tap in unbound else fit, value) for tap, value in taps.items()},
            opinions={kind: self.fit_opinions(kind, heads, fit) for kind, heads in opinions.items()},
            unbound=unbound,
        )

    def fit_opinions(self, kind: str, opinions: list[Any], fit: Callable[[Tensor], Tensor]) -> list[Any]:
        """Return a teacher's opinions in float32, their maps cut to what the student's image covers by ``fit``."""
        return opinions

    @contextmanager
    def as_in_training(self) -> Iterator[None]:
        """Context manager: heads speak as in training, their layers stay in eval mode."""
        modes = [module.training for module in self._speakers]
        for module in self._speakers:
            module.training = True
        try:
            yield
        finally:
            for module, mode in zip(self._speakers, modes, strict=True):
                module.training = mode

    def parts_of(self, kinds: Iterable[str]) -> set[str]:
        """Return the children that have to run for opinions of these kinds."""
        return set()

    def run(self, question: Question, images: Tensor) -> dict[str, list[Any]]:
        """Run the children of the model that the question is about and what they need; return the opinions asked for."""
        parts = {Tap.parse(tap).path.partition('.')[0] for tap in question.taps} | self.parts_of(question.opinions)
        if not parts:
            return {}
        if not hasattr(self.model, 'backbone'):
            self.run_whole(images)
            return {}
        if parts == {'backbone'}:
            self.model.backbone(images)
            return {}
        features = self.model.extract_feat(images)
        opinions: dict[str, list[Any]] = {}
        for part in sorted(parts - {'', 'backbone', 'neck'}):
            opinions.update(self.run_head(part, features, question))
        return opinions

    def run_whole(self, images: Tensor) -> Any:
        """Run the whole model and return its own output."""
        if not hasattr(self.model, 'data_preprocessor'):
            return self.model(images)
        with explained(self.model, self.owner, ''):
            return self.model(images, None, mode='tensor')

    def run_head(self, part: str, features: Any, question: Question) -> dict[str, list[Any]]:
        """Run one head on the features."""
        with explained(self.model, self.owner, part):
            getattr(self.model, part)(features)
        return {}

    def probe_samples(self, kinds: Iterable[str]) -> dict[str, list[Any]]:
        """Return made-up samples with which :meth:`probe` can run the parts that need some."""
        return {}

    def probe(self, taps: Iterable[str]) -> dict[str, list[Tensor]]:
        """Run a tiny blank batch and return the tensors at each tap; the model comes out as it went in.

        Raises:
            TapError: If there is no such tap, or none in a part that this view runs.
        """
        taps = frozenset(taps)
        answer = self.answer_to_blank(Question(taps, self.probe_samples(self.kinds_behind(taps))))
        values = {tap: list(tensors_of(value)) for tap, value in answer.taps.items()}
        for tap, tensors in values.items():
            if not tensors:
                raise TapError(f"tap '{tap}' of the {self.owner} holds no tensor")
        return values

    def probe_opinions(self, kind: str) -> list[Any]:
        """Run a tiny blank batch and return what the heads say about it, as :meth:`probe` does for taps."""
        question = Question(samples=self.probe_samples({kind}), opinions=frozenset({kind}))
        return list(self.answer_to_blank(question).opinions[kind])

    def answer_to_blank(self, question: Question) -> Answer:
        """Answer a question about a tiny blank batch; the model comes out as it went in."""
        images = blank_batches(self.model, self.image_format.channels, self.image_format.size_divisor)
        return run_on_blank(
            self.model, self.owner, images, lambda batch: self.answer(question, batch.to(self.image_dtype()))
        )

    def image_dtype(self) -> torch.dtype:
        """Return the type that this model's layers take now."""
        layer = next((m for m in self.model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))), None)
        return layer.weight.dtype if layer is not None else torch.float32

"""What the student was given, what a teacher is asked, what a model showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from kddense.taps import map_tensors, tensors_of

from .errors import ViewError


@dataclass(frozen=True)
class ImageFormat:
    """How a data preprocessor of mmengine, mmdet or mmseg turns an image into a network's input.

    Attributes:
        mean: Subtracted from each channel, in the network's channel order, 0..255; one value, or one for each channel.
        std: Divided by.
        reversed_channels: Whether the image's channels are reversed first (BGR ↔ RGB).
        pad_value: What padding holds, in the normalised space.
        size_divisor: Heights and widths are padded to multiples of it.
        augments: Names of the classes that then change whole batches.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    reversed_channels: bool = False
    pad_value: float = 0.0
    size_divisor: int = 1
    augments: tuple[str, ...] = ()

    @classmethod
    def of(cls, preprocessor: Any) -> ImageFormat:
        """Read the format off an ``ImgDataPreprocessor``, ``DetDataPreprocessor`` or ``SegDataPreprocessor``."""
        normalises = getattr(preprocessor, '_enable_normalize', False)
        return cls(
            mean=tuple(preprocessor.mean.flatten().tolist()) if normalises else (0.0,),
            std=tuple(preprocessor.std.flatten().tolist()) if normalises else (1.0,),
            reversed_channels=bool(_first(preprocessor, ('_channel_conversion', 'channel_conversion'), False)),
            pad_value=float(_first(preprocessor, ('pad_value', 'pad_val'), 0.0)),
            size_divisor=int(_first(preprocessor, ('pad_size_divisor', 'size_divisor'), 1) or 1),
            augments=tuple(type(one).__name__ for one in getattr(preprocessor, 'batch_augments', None) or ()),
        )

    @property
    def channels(self) -> int | None:
        """The number of channels, if the mean has one value for each; else ``None``."""
        return len(self.mean) if len(self.mean) > 1 else None


def _first(module: Any, names: Sequence[str], default: float | bool) -> float | bool:
    return next((getattr(module, name) for name in names if hasattr(module, name)), default)


@dataclass(frozen=True)
class Batch:
    """What the student was given in one step.

    Attributes:
        inputs: Its images, normalised and padded, shape ``(N, C, H, W)``, float.
        data_samples: Its data samples, one per image: ground truth, ids (``metainfo``), sizes.
        image_format: How ``inputs`` were made of images.
    """

    inputs: Tensor
    data_samples: list[Any]
    image_format: ImageFormat = ImageFormat()

    def cut(self) -> list[Batch]:
        """Return the batches of the single images."""
        rows = range(len(self.inputs))
        samples = self.data_samples or [None] * len(self.inputs)
        return [replace(self, inputs=self.inputs[row : row + 1], data_samples=[samples[row]]) for row in rows]

    def of(self, images: Sequence[int]) -> Batch:
        """Return the batch of some of its images; of all of them, itself."""
        if list(images) == list(range(len(self.inputs))):
            return self
        rows = list(images)
        return replace(self, inputs=self.inputs[rows], data_samples=[self.data_samples[row] for row in rows])


@dataclass(frozen=True)
class Question:
    """What a teacher is asked.

    Attributes:
        taps: Places to listen to, see :mod:`kddense.taps`.
        samples: The student's samples by kind (``'rpn'``, ``'roi'``, ``'dense'``), one per head of that kind.
        opinions: The kinds whose opinions an objective needs; a sample may also be there for a tap alone.
        gradients: Taps whose gradient of the teacher's own loss is asked for; ``'neck of loss_rpn.*'`` for some of its
            losses.
        data_samples: The sizes of the images as the teacher sees them, one data sample per image, without labels.
    """

    taps: frozenset[str] = frozenset()
    samples: Mapping[str, list[Any]] = field(default_factory=dict)
    opinions: frozenset[str] = frozenset()
    gradients: frozenset[str] = frozenset()
    data_samples: tuple[Any, ...] = ()

    def rescaled(self, scale: float) -> Question:
        """Return the question about an image ``scale`` times as large."""
        if scale == 1:
            return self
        samples = {kind: [sample.rescaled(scale) for sample in group] for kind, group in self.samples.items()}
        return replace(self, samples=samples)


def split_gradient(text: str) -> tuple[str, str]:
    """Return the tap and the regular expression of losses of ``'tap of losses'``; of a tap alone, all losses."""
    tap, _, losses = text.partition(' of ')
    return tap, losses or '.*'


@dataclass(frozen=True)
class Shown:
    """Where an objective looks, for pictures of what it compares.

    Attributes:
        student_tap: The tap of the student whose feature it compares.
        teacher_tap: The same in the teacher.
        pairs: The kind (``'pixels'`` or ``'scores'``) whose places it compares with one another.
    """

    student_tap: str | None = None
    teacher_tap: str | None = None
    pairs: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a model showed in one step.

    Attributes:
        taps: Value by tap; a list if the part ran several times.
        samples: What was sampled, by kind: the boxes and their targets (a student only).
        opinions: What the model's heads say about them, by kind.
        gradients: Gradients of the teacher's own loss by what was asked, one tensor for each tensor at the tap (a
            teacher only).
        batch: What the student was given (a student only).
        losses: The student's own losses by name, before any factor (a student only).
        unbound: Taps whose values are about samples, not about images one by one: they cannot be cut.
        teacher: The teacher that answered; see :meth:`through`.
    """

    taps: Mapping[str, Any] = field(default_factory=dict)
    samples: Mapping[str, list[Any]] = field(default_factory=dict)
    opinions: Mapping[str, list[Any]] = field(default_factory=dict)
    gradients: Mapping[str, list[Tensor]] = field(default_factory=dict)
    batch: Batch | None = None
    losses: Mapping[str, Any] = field(default_factory=dict)
    unbound: frozenset[str] = frozenset()
    teacher: Any = field(default=None, repr=False, compare=False)

    def through(self, path: str, *values: Tensor) -> Any:
        """Apply a part of the frozen teacher to values of the student; gradients flow to them, none into the teacher.

        Args:
            path: A sub-module of the teacher, such as ``'bbox_head.retina_cls'``; ``'bbox_head.cls_convs[1:]'`` runs the
                entries of a list one after another.
            *values: What the part is given, tensors on the student's side.

        Returns:
            What the part returns, in float32.

        Raises:
            ValueError: If no teacher gave this answer, or it has no such part.
        """
        if self.teacher is None:
            raise ValueError(f"through('{path}') needs the answer of a teacher, this one is the student's")
        return self.teacher.through(path, *values)

    def cut(self, images: int) -> list[Answer]:
        """Return the answers about the single images.

        Args:
            images: How many images it is about, N.

        Raises:
            ViewError: If a value is not about images one by one.
        """
        for tap in self.taps:
            _check_rows(tap, self.taps[tap], images, tap in self.unbound)
        samples, opinions = _cut_groups(self.samples, images), _cut_groups(self.opinions, images)
        batches = self.batch.cut() if self.batch is not None else [None] * images
        return [
            replace(
                self,
                taps=_row(self.taps, image),
                samples=samples[image],
                opinions=opinions[image],
                gradients=_row(self.gradients, image),
                batch=batches[image],
            )
            for image in range(images)
        ]

    def of(self, images: Sequence[int], among: int) -> Answer:
        """Return the answer about some images; about all of them, itself.

        Args:
            images: Their places among those that it is about, at least one.
            among: How many images it is about, N.

        Raises:
            ViewError: If a value is not about images one by one.
        """
        if list(images) == list(range(among)):
            return self
        parts = self.cut(among)
        return Answer.join([parts[image] for image in images])

    def over(self, classes: Sequence[int] | None) -> Answer:
        """Return what it says of some classes alone, of heads that sample boxes; of all of them, itself.

        Args:
            classes: Which classes, ascending, ``None`` for all. What is of another class counts as background.
        """
        if classes is None:
            return self
        samples, opinions = (
            {kind: [one.over(classes) for one in group] for kind, group in groups.items()}
            for groups in (self.samples, self.opinions)
        )
        return replace(self, samples=samples, opinions=opinions)

    @classmethod
    def join(cls, answers: Sequence[Answer]) -> Answer:
        """Put answers about single images together: the inverse of :meth:`cut`."""
        first = answers[0]
        return replace(
            first,
            taps=_joined([answer.taps for answer in answers]),
            samples=_join_groups([answer.samples for answer in answers]),
            opinions=_join_groups([answer.opinions for answer in answers]),
            gradients=_joined([answer.gradients for answer in answers]),
            batch=_join_batches([answer.batch for answer in answers]),
        )


def _check_rows(tap: str, value: Any, images: int, unbound: bool) -> None:
    sizes = {len(tensor) if tensor.dim() else None for tensor in tensors_of(value)}
    if unbound or sizes - {images}:
        raise ViewError(f"tap '{tap}' is not about images one by one: its answer cannot be cut into those of {images}")


def _row(values: Any, image: int) -> Any:
    return map_tensors(lambda tensor: tensor[image : image + 1], dict(values))


def _joined(values: Sequence[Any]) -> Any:
    """Concatenate the tensors that stand at the same place in nested dicts and lists."""
    tensors = [list(tensors_of(dict(value))) for value in values]
    rows = iter([torch.cat(group) for group in zip(*tensors, strict=True)])
    return map_tensors(lambda _: next(rows), dict(values[0]))


def _cut_groups(groups: Mapping[str, list[Any]], images: int) -> list[dict[str, list[Any]]]:
    cut = {kind: [item.cut(images) for item in group] for kind, group in groups.items()}
    return [{kind: [item[image] for item in group] for kind, group in cut.items()} for image in range(images)]


def _join_groups(groups: Sequence[Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    return {
        kind: [type(items[0]).join(items) for items in zip(*(group[kind] for group in groups), strict=True)]
        for kind in groups[0]
    }


def _join_batches(batches: Sequence[Batch | None]) -> Batch | None:
    parts = [batch for batch in batches if batch is not None]
    if not parts:
        return None
    samples = [sample for batch in parts for sample in batch.data_samples]
    return replace(parts[0], inputs=torch.cat([batch.inputs for batch in parts]), data_samples=samples)

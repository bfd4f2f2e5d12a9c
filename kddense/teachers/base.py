"""What a teacher is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from kddense.datasets import DATASET
from kddense.exchange import Answer, Batch, ImageFormat, Question
from kddense.taps import nearest
from kddense.views import ModelView

from .weights import hash_of


class Teacher(nn.Module):
    """A trained model that answers questions about the student's batches.

    It is in eval mode for good (dropout and drop-path too), needs no gradient, draws no random number that others would
    see, and follows ``.to()`` and friends. :class:`kddense.Distiller` keeps it outside its own modules, so that it is in no
    optimiser, checkpoint, EMA copy or DDP bucket; a deep copy of the distiller shares it.

    A teacher of one's own sets ``view`` and implements :meth:`answer`; the rest has defaults.

    Args:
        name: What messages call it: the config key it came from.
        datasets: Names of the data sets about whose images it is asked, see :class:`kddense.NamedDataset`; of all by
            default.

    Attributes:
        view: What it shows: its taps and kinds of knowledge.
        model: The model itself; of an ensemble its first.
        input_scale: Size of the image that it sees, relative to the student's.
        classes: Names of its classes, ``None`` if they are not known.
        class_map: For every class of the student its own, by index, ``None`` where it has none; ``None`` if they are the
            same.
        datasets: Names of the data sets about whose images it is asked; ``None`` for all.
        checkpoint: Path or URL of its weights, ``None`` if it has none.
        unkept: Why its answers cannot be kept on disk, in words; ``''`` if they can.
    """

    view: ModelView
    model: Any
    input_scale: float = 1.0
    classes: tuple[str, ...] | None = None
    class_map: list[int | None] | None = None
    datasets: tuple[str, ...] | None = None
    checkpoint: str | None = None
    unkept: str = ''

    def __init__(self, name: str = 'teacher', datasets: Sequence[str] | None = None) -> None:
        super().__init__()
        self.name = name
        self.datasets = None if datasets is None else tuple(datasets)

    def own_images(self, batch: Batch) -> list[int]:
        """Return about which images of a batch it is asked, by their places.

        Raises:
            ValueError: If it is asked about some data sets, and an image does not say which it is of.
        """
        if self.datasets is None:
            return list(range(len(batch.inputs)))
        names = [sample.metainfo.get(DATASET) for sample in batch.data_samples]
        if None in names:
            place = names.index(None)
            which = batch.data_samples[place].metainfo.get('img_path', f'number {place} of the batch')
            raise ValueError(
                f'{self.name}.datasets: the image {which} does not say of which data set it is: let each data set of '
                "train_dataloader be the `dataset` of a dict(type='kddense.NamedDataset', called=…)"
            )
        return [place for place, name in enumerate(names) if name in self.datasets]

    def check_datasets(self, names: Iterable[str]) -> None:
        """Raise a ValueError if it is to be asked about a data set that a run does not have.

        Args:
            names: Of the run's data sets.
        """
        known = sorted(set(names))
        unknown = [one for one in self.datasets or () if one not in known]
        if unknown and known:  # without any name, the first image is refused
            raise ValueError(
                f"{self.name}.datasets: no data set of the run is called '{unknown[0]}'{nearest(unknown[0], known)}; those "
                f'in train_dataloader and in hooks are called {", ".join(known)}'
            )

    def check_ready(self) -> None:
        """Raise a ValueError if, as the first step begins, it is not what it is meant to be."""

    def answer(self, question: Question, batch: Batch) -> Answer:
        """Run the parts that ``question`` asks about, on the images that the student sees.

        Args:
            question: Taps to listen to, and samples of the student to judge.
            batch: What the student was given.

        Returns:
            Values by tap and opinions by kind, float32 and detached.
        """
        raise NotImplementedError

    def through(self, path: str, *values: Any) -> Any:
        """Apply a part of it to values of the student, see :meth:`kddense.exchange.Answer.through`."""
        raise ValueError(f'{self.name} ({type(self).__name__}) has no single model whose parts could be applied')

    def load(self, checkpoint: str) -> None:
        """Take other weights: load, fold and cast as at build.

        Args:
            checkpoint: Path or URL.

        Raises:
            ValueError: If they do not fit.
        """
        raise ValueError(f'{self.name} ({type(self).__name__}) cannot load a checkpoint')

    def identity(self) -> dict[str, str]:
        """Return what decides its answers, as short texts: ``weights``, and ``teacher`` for its model and options."""
        about = f'{type(self).__name__} {self.input_scale} {self.class_map} {self}'
        return dict(weights=hash_of(self.state_dict()), teacher=hash_of({about: torch.zeros(0)}))

    def check_images(self, student: ImageFormat) -> None:
        """Raise a ValueError if the student's images cannot be rewritten as this teacher's."""

    def check_classes(self, student: Sequence[str] | None, what: str) -> None:
        """Raise a ValueError if the names of the student's classes are known and are not this teacher's.

        Args:
            student: Names of the classes of the student's dataset, ``None`` if unknown.
            what: The config key of what compares the classes.
        """
        if student is None or self.classes is None or self.class_map is not None:
            return
        pairs = zip(student, self.classes, strict=False)
        differing = [pair for pair in pairs if pair[0].lower() != pair[1].lower()]
        if len(student) == len(self.classes) and not differing:
            return
        found = (
            f"'{differing[0][0]}' is '{differing[0][1]}' there"
            if differing
            else f'{len(student)} and {len(self.classes)}'
        )
        raise ValueError(
            f"{what}: the student's classes are not those of the {self.name} ({found}); choose and order the teacher's with "
            f'{self.name}.class_map, one name or index for each of {", ".join(student)}'
        )

    def train(self, mode: bool = True) -> Teacher:
        """Stay in eval mode, whatever is asked."""
        return super().train(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

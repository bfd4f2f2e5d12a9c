"""A teacher that is asked once about each variant of each image, and read from disk afterwards."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from kddense.errors import ConfigError
from kddense.exchange import Answer, Batch, ImageFormat, Question, ViewError
from kddense.options import no_such_key, options_of
from kddense.registry import TEACHERS
from kddense.taps import Taps

from .base import Teacher
from .build import arguments_of, build_teacher
from .cache import FORMS, Form, Kept, Record, Store, check_keepable, check_same, keep, restore, versions
from .cache.question import Division, divide, heard_at, playing
from .cache.telling import Teller
from .cache.variant import described, keys_of
from .frozen import FrozenTeacher

# Of batch augmentations those that draw sizes alone, which the inputs' shape tells.
DRAW_SIZES = ('BatchFixedSizePad', 'BatchSyncRandomResize', 'BatchResize')
Found = Sequence[tuple[str, Record | None]]  # what is kept of each image of a batch, by key


@TEACHERS.register_module()
class CachedTeacher(Teacher):
    """Any teacher, whose answers are kept in a folder: each is computed once, and read in every later pass and run.

    What it answers is what the teacher answers, bit for bit with ``keep='fp32'``. The training data are a
    :class:`kddense.VariantDataset`. Where samples of the student are judged, the features (for a RoI head) or the head's
    maps (RPN, dense heads) are kept, and the rest is computed each time. Not kept are gradients of the teacher's own losses,
    and taps whose values are not about images one by one: such questions are asked each time, which the log says once.

    An answer is found by the pixels of the image, the size of the batch's canvas, and what is asked; with ``keep='fp32'``
    also by the number of images in the batch, which may move last bits. So an image is asked about again that a larger one
    beside it pads differently.

    Args:
        folder: Where answers are kept. Several processes and machines may share it.
        variants: How many each image has; a check, if given: it must be the data set's number.
        keep: ``'fp32'`` keeps values as they are (at no loss in two bytes, where the teacher computes in bfloat16),
            ``'bf16'`` in bfloat16, ``'int8'`` in 255 steps per image and channel, ``'top_k'`` the logits of the likeliest
            classes, all others as one that keeps their probability; the log tells the error.
        classes: Of ``keep='top_k'``: how many classes.
        check: So many batches that are read are asked about too, at the start, and compared.
        spare: GiB of the disk that are left free.
        teacher: Config of the teacher, if it has a ``type`` of its own; else ``config``, ``checkpoint`` and what else
            :class:`kddense.FrozenTeacher` takes stand here.
        name: What messages call it: the config key it came from.
        **kwargs: See :class:`kddense.FrozenTeacher`.

    Raises:
        ValueError: If an argument does not fit, or the folder holds answers of another teacher, about other images, or of
            other versions.

    Example:
        >>> teacher = dict(
        ...     type='kddense.CachedTeacher',
        ...     folder='work_dirs/answers',
        ...     config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py',
        ...     checkpoint='r101.pth')
    """

    names_unknown_keys = True
    passes_on_to = FrozenTeacher

    def __init__(
        self,
        folder: str | Path,
        variants: int | None = None,
        keep: Literal['fp32', 'bf16', 'int8', 'top_k'] = 'fp32',
        classes: int = 5,
        check: int = 2,
        spare: float = 1.0,
        teacher: Mapping[str, Any] | None = None,
        name: str = 'teacher',
        **kwargs: Any,
    ) -> None:
        super().__init__(name)
        known = arguments_of(CachedTeacher)
        for key in kwargs.keys() - known:
            raise ConfigError(no_such_key(key, known), name)
        for key, value, least in (('variants', variants, 1), ('classes', classes, 1), ('check', check, 0)):
            if value is not None and value < least:
                raise ValueError(f'{name}.{key} must be at least {least}, got {value}')
        if keep not in FORMS:
            raise ValueError(f"{name}.keep must be one of {', '.join(FORMS)}, got '{keep}'")
        if not spare >= 0:
            raise ValueError(f'{name}.spare must be at least 0 GiB, got {spare}')
        if teacher is not None and kwargs:
            raise ConfigError(
                'stands beside `teacher`, which has its own: remove one of the two', f'{name}.{min(kwargs)}'
            )
        self.folder = self._root = Path(folder)
        self.variants = variants
        self.inner: Any = build_teacher(dict(kwargs if teacher is None else teacher), name)
        check_keepable(self.inner, name)
        self.form = Form(keep, classes, getattr(self.inner, 'dtype', torch.float32) != torch.float32)
        self._take_over()
        self.asked = self.read = 0
        self._checks = self._left_to_check = check
        self._spare = spare * 2**30
        self._store: Store | None = None
        self._whose = ''
        self._unkept: set[tuple[frozenset[str], ...]] = set()
        self._student = ImageFormat()
        self._teller = Teller(name, self.folder, self.form)

    @property
    def view(self) -> Any:  # type: ignore[override]
        """What the teacher shows."""
        return self.inner.view

    @property
    def store(self) -> Store:
        """The records; there are none before the first question."""
        assert self._store is not None
        return self._store

    def __getattr__(self, name: str) -> Any:
        """Look up in the teacher what this wrapper lacks."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            inner = self.__dict__.get('_modules', {}).get('inner')
            if inner is None:
                raise
            return getattr(inner, name)

    def _take_over(self) -> None:
        """Say of itself what the teacher says of itself."""
        for name in ('input_scale', 'classes', 'class_map', 'datasets', 'checkpoint'):
            setattr(self, name, getattr(self.inner, name))

    def through(self, path: str, *values: Any) -> Any:
        return self.inner.through(path, *values)

    def load(self, checkpoint: str) -> None:
        """Take other weights, whose answers are kept in a folder of their own within this one's."""
        self.inner.load(checkpoint)
        self._take_over()
        self._close()
        self._unkept.clear()
        self.folder = self._root / self.inner.identity()['weights'][:12]
        self._teller = Teller(self.name, self.folder, self.form)
        self._left_to_check = self._checks

    def check_images(self, student: ImageFormat) -> None:
        self.inner.check_images(student)
        self._student = student
        drawing = [name for name in student.augments if name not in DRAW_SIZES]
        if drawing:
            raise ConfigError(
                f'{drawing[0]} draws for whole batches, which no variant of an image brings back: remove it, or the cache '
                f'({self.name}.type)',
                'student.data_preprocessor.batch_augments:',
            )

    @staticmethod
    def beneath(config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the config of the teacher that computes what the one of a config reads."""
        own = options_of(CachedTeacher).keys()
        return dict(config.get('teacher') or {key: value for key, value in config.items() if key not in {'type', *own}})

    def identity(self) -> dict[str, str]:
        return self.inner.identity()

    def check_classes(self, student: Sequence[str] | None, what: str) -> None:
        self.inner.check_classes(student, what)

    @torch.no_grad()
    def answer(self, question: Question, batch: Batch) -> Answer:
        division = self._divided(question)
        if division is None:
            return replace(self.inner.answer(question, batch), teacher=self)
        if self._store is None:
            self._open(batch)
        keys = keys_of(division, batch, self.form.is_exact, self._whose, self.name)
        found = [(key, self.store.find(key)) for key in keys]
        records = [record for _, record in found if record is not None]
        if len(records) < len(found) or len({record.structure for record in records}) > 1:
            return self._ask(question, division, batch, found)
        if self._left_to_check > 0:
            self._check(question, division, batch, records)
        self.read += 1
        return self._answer_of(records, division, batch)

    def _divided(self, question: Question) -> Division | None:
        """Divide a question; ``None`` if its answer cannot be kept."""
        key = (question.taps, question.opinions, question.gradients)
        if key in self._unkept:
            return None
        try:
            return divide(question, self.view)
        except ViewError as error:
            self._not_kept(question, error)
            return None

    def _not_kept(self, question: Question, why: ViewError) -> None:
        self._unkept.add((question.taps, question.opinions, question.gradients))
        self._teller.not_kept(str(why))

    def _open(self, batch: Batch) -> None:
        """Open the folder, if it holds answers of this teacher about such images."""
        about = described(batch, 0, self.name)
        if self.variants not in (None, about['variants']):
            raise ConfigError(
                f'is {self.variants}, but the data set has {about["variants"]} (train_dataloader.dataset.variants): give '
                'both the same number',
                f'{self.name}.variants',
            )
        own = dict(
            self.inner.identity(),
            student=repr(self._student),
            **{key: about[key] for key in ('images', 'seed', 'pipeline')},
            form=self.form.name if self.form.name != 'top_k' else f'top_{self.form.classes}',
            versions=versions(self.inner),
        )
        self._whose = json.dumps(own, sort_keys=True)
        full = check_same(self.folder, own, self.name)
        self._store = Store(self.folder, self.name, self._spare)
        if full is not None:
            self._store.end(full)
        self._finalizer = weakref.finalize(self, self._store.close)
        self._teller.found(len(self._store))

    def _close(self) -> None:
        if self._store is not None:
            self._finalizer()
            self._store = None

    def _ask(self, question: Question, division: Division, batch: Batch, found: Found) -> Answer:
        """Ask the teacher, and keep of what it answers what was not found."""
        self.asked += 1
        if self.store.has_ended and self.form.is_exact:
            return replace(self.inner.answer(question, batch), teacher=self)
        answer, kept = self._asked(question, division, batch)
        if kept is None:
            return answer
        if not self.store.has_ended:
            for image in range(len(batch.inputs)):
                self._teller.before_the_first(kept, described(batch, image, self.name), division.what)
        for (key, known), record in zip(found, kept.records, strict=True):
            if known is None or known.structure != record.structure:
                self.store.add(key, record)
        if self.form.is_exact:
            return answer
        return self._answer_of(kept.records, division, batch)

    def _asked(self, question: Question, division: Division, batch: Batch) -> tuple[Answer, Kept | None]:
        """Return the teacher's answer, and what is kept of it: nothing, if that cannot be."""
        with Taps(self.inner.model, division.parts, self.name) as heard:
            answer = self.inner.answer(question, batch)
        known = dict(
            taps={tap: answer.taps[tap] for tap in sorted(division.fixed.taps)},
            opinions={kind: answer.opinions[kind] for kind in sorted(division.fixed.opinions)},
            parts=heard_at(division.parts, heard),
        )
        answer = replace(answer, teacher=self)
        try:
            return answer, keep(known, len(batch.inputs), self.form, self.inner.model, self.view.is_sigmoid)
        except ViewError as error:
            self._not_kept(question, error)
            return answer, None

    def _answer_of(self, records: Sequence[Record], division: Division, batch: Batch) -> Answer:
        """Make an answer of records; heads that judge samples run on what is kept of the parts before them."""
        known, _ = restore(records, self.inner.model, batch.inputs.device)
        answer = Answer(taps=known['taps'], opinions=known['opinions'], teacher=self)
        if division.sampled is None:
            return answer
        with playing(self.inner.model, known['parts']):
            late = self.inner.answer(division.sampled, batch)
        return replace(
            answer,
            taps={**answer.taps, **late.taps},
            opinions={**answer.opinions, **late.opinions},
            unbound=late.unbound,
        )

    def _check(self, question: Question, division: Division, batch: Batch, records: Sequence[Record]) -> None:
        """Ask about a batch that is read, and compare."""
        self._left_to_check -= 1
        _, kept = self._asked(question, division, batch)
        if kept is None:
            return
        device = torch.device('cpu')
        fresh, stored = (restore(one, self.inner.model, device)[1] for one in (kept.records, records))
        self._teller.compare(fresh, stored)

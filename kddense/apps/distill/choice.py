"""What is known of a recipe: the families of models that it fits, and its recorded gains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kddense.apps.measure.markdown import SHORT, gain
from kddense.apps.measure.recorded import read_table
from kddense.configs import CONFIGS

TWO_STAGE, ONE_STAGE, GFL, DETR, MASK_QUERIES, SEGMENTOR, DEPTH = FAMILIES = (
    'two-stage detector',
    'one-stage detector',
    'GFL detector',
    'detector of the DETR family',
    'model of the MaskFormer family',
    'segmentor',
    'depth estimator',
)
DENSE = (ONE_STAGE, GFL)  # both have one dense head on a pyramid
OF_GFL = ('ld', 'crosskd_gfl')  # whose teacher is a GFL as well
_METRICS = {**SHORT, 'abs_rel': 'abs rel'}


@dataclass(frozen=True)
class Measured:
    """A row of a recorded table: the gain over the plain student of the same seed and steps.

    Attributes:
        student: What was distilled, in a word.
        record: The table, ``folder/file`` under ``configs/``.
        config: The row of it, a file in the record's folder unless it names another one.
    """

    student: str
    record: str
    config: str

    @property
    def row(self) -> dict[str, Any]:
        """What is recorded, see :func:`kddense.apps.measure.table.make_table`."""
        config = self.config if '/' in self.config else f'{Path(self.record).parent}/{self.config}'
        return next(row for row in _rows(self.record) if row['config'] == f'configs/{config}')

    @property
    def gain(self) -> str:
        """The mean with its 95 % interval, and the metric; above 0 is better."""
        metric = self.row['metric']
        return f'{gain(self.row, metric)} {_METRICS.get(metric, metric)}'

    @property
    def verdict(self) -> str:
        """``'helps'``, ``'harms'`` or ``'no difference seen'``."""
        return str(self.row['verdict'])

    def __str__(self) -> str:
        return f'{self.student}: {self.gain}, {self.verdict}'


@cache
def _rows(record: str) -> list[dict[str, Any]]:
    return list(read_table(CONFIGS / record)['rows'])


@dataclass(frozen=True)
class Choice:
    """A recipe for some families of students.

    Attributes:
        recipe: Its name.
        students: The families that it fits.
        measured: What is recorded of it, for these students.
        note: What else speaks for it or against it.
        same_family: Whether the teacher must be of the student's family (one-stage detectors count as one family).
        of_strangers: What is recorded of it where the teacher has another kind of backbone.
        with_unlabelled: What is recorded of it where each batch has images without labels beside.
    """

    recipe: str
    students: tuple[str, ...]
    measured: tuple[Measured, ...] = ()
    note: str = ''
    same_family: bool = True
    of_strangers: tuple[Measured, ...] = ()
    with_unlabelled: tuple[Measured, ...] = ()

    def is_measured(self, unlabelled: bool = False) -> bool:
        """Tell whether there is a record of it, from a teacher of any backbone; or one with images without labels."""
        return bool(self.measured or self.of_strangers or (unlabelled and self.with_unlabelled))

    @property
    def gain_with_unlabelled(self) -> float:
        """The greatest mean that was seen to help with images without labels beside; 0 if none was."""
        return max((one.row['paired_mean'] for one in self.with_unlabelled if one.verdict == 'helps'), default=0.0)

    @property
    def harms_by_strangers(self) -> bool:
        """Whether it was seen to harm where the teacher has another kind of backbone."""
        return any(one.verdict == 'harms' for one in self.of_strangers)

    def fits(self, student: str | None, teacher: str | None) -> bool:
        """Tell whether it fits a student and a teacher, each of a family or of none that is known."""
        if not self.same_family:
            return True
        alike = student == teacher or (student in DENSE and teacher in DENSE)
        return student in self.students and alike and (self.recipe not in OF_GFL or teacher == GFL)

    def why(self, unlabelled: bool = False) -> str:
        """Return what was measured of it, in a sentence; first with images without labels beside, if there are some."""
        beside = [f'with images without labels, {one}' for one in self.with_unlabelled if unlabelled]
        strangers = [f'from another kind of backbone, {one}' for one in self.of_strangers]
        told = '; '.join([*beside, *map(str, self.measured), *strangers]) or 'never measured here'
        return f'{told} ({self.note})' if self.note else told

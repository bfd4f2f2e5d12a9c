"""How wrong a teacher is over its student's training set: the range that attentive imitation measures its errors by.

Saputra et al. (ICCV 2019) take ``η = max e - min e``, with e the teacher's errors on every training sample, from a pass over
the whole set before the training. Such a pass leaves a small JSON file; without one, the range is kept up while training.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from torch import Tensor, nn

from kddense.configs import config_from_text
from kddense.files import file_digest
from kddense.losses._checks import check_not_negative
from kddense.registry import name_of

RUNNING = 'running'
PERCENTILES = (50, 75, 90, 95, 98, 99, 99.5, 99.9)
PUBLISHED = re.compile('-[0-9a-f]{8}$')


@dataclass(frozen=True)
class TeacherErrors:
    """The errors of one teacher on one training set.

    Attributes:
        dataset: Which set, see :func:`describe_dataset`.
        teacher: Which teacher, see :func:`describe_checkpoint`.
        measure: What an error is, such as ``'squared box deltas'``; the objective that reads the file says.
        count: How many samples there were.
        minimum: The least error.
        maximum: The greatest.
        percentiles: Error by percentile.
    """

    dataset: str
    teacher: str
    measure: str
    count: int
    minimum: float
    maximum: float
    percentiles: Mapping[float, float]

    @classmethod
    def of(cls, errors: Tensor, dataset: str, teacher: str, measure: str) -> TeacherErrors:
        """Sum up the errors of a whole set.

        Args:
            errors: One per sample, of any shape, floating dtype and unit.
            dataset: The set's name.
            teacher: The teacher's.
            measure: What an error is.

        Raises:
            ValueError: If there is none, or one is not finite or below 0.
        """
        errors = errors.detach().flatten().double()
        if not len(errors):
            raise ValueError(f'{dataset} holds no sample that the teacher could be wrong about')
        if not (errors.isfinite().all() and (errors >= 0).all()):
            raise ValueError(f'errors of {teacher} on {dataset} must be finite and at least 0')
        ordered = errors.sort().values
        percentiles = {percent: _percentile(ordered, percent) for percent in PERCENTILES}
        return cls(dataset, teacher, measure, len(errors), float(ordered[0]), float(ordered[-1]), percentiles)

    def range(self, percentile: float | None = None) -> float:
        """Return η: the greatest error, or that at ``percentile``, less the least one.

        Raises:
            ValueError: If the percentile was not measured.
        """
        if percentile is None:
            return self.maximum - self.minimum
        if percentile not in self.percentiles:
            known = ', '.join(f'{percent:g}' for percent in self.percentiles)
            raise ValueError(f'percentile must be one of those measured, {known}, got {percentile}')
        return self.percentiles[percentile] - self.minimum


def _percentile(ordered: Tensor, percent: float) -> float:
    position = percent / 100 * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return float(torch.lerp(ordered[below], ordered[above], position - below))


def write_teacher_errors(path: str | Path, errors: TeacherErrors) -> None:
    """Write errors to a JSON file with the keys of :class:`TeacherErrors`, and ``percentile_<p>`` for each percentile."""
    contents = {**asdict(errors), **{f'percentile_{p:g}': error for p, error in errors.percentiles.items()}}
    del contents['percentiles']
    Path(path).write_text(json.dumps(contents, indent=2) + '\n')


def read_teacher_errors(path: str | Path) -> TeacherErrors:
    """Read what :func:`write_teacher_errors` wrote.

    Raises:
        ValueError: If there is no such file, it is not such a file, or its numbers contradict each other.
    """
    try:
        contents = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"'{path}' is no file of teacher errors ({error}): measure them first") from error
    names = [field.name for field in fields(TeacherErrors) if field.name != 'percentiles']
    if not isinstance(contents, dict) or not contents.keys() >= set(names):
        raise ValueError(f"'{path}' is no file of teacher errors: it must be a dict with the keys {', '.join(names)}")
    percentiles = {
        float(key.removeprefix('percentile_')): error
        for key, error in contents.items()
        if key.startswith('percentile_')
    }
    errors = TeacherErrors(**{name: contents[name] for name in names}, percentiles=percentiles)
    if not 0 <= errors.minimum <= errors.maximum < math.inf:
        raise ValueError(
            f"'{path}': minimum and maximum must be finite, at least 0 and in this order, "
            f'got {errors.minimum} and {errors.maximum}'
        )
    return errors


def describe_dataset(dataset: Mapping[str, Any]) -> str:
    """Name a dataset by its config: type, last folder of its root, annotation file and folders; not its transforms.

    Wrappers are looked into: a set that is repeated is the same set.
    """
    if 'datasets' in dataset:
        return ' + '.join(describe_dataset(one) for one in dataset['datasets'])
    if 'dataset' in dataset:
        return describe_dataset(dataset['dataset'])
    prefixes = [str(dataset['data_prefix'][key]) for key in sorted(dataset.get('data_prefix') or {})]
    root = PurePosixPath(str(dataset.get('data_root') or '')).name
    parts = [name_of(dataset['type']), root, str(dataset.get('ann_file') or ''), *prefixes]
    if dataset.get('indices') is not None:
        parts.append(f'indices={dataset["indices"]}')
    return ' '.join(filter(None, parts))


def training_set(config: str) -> str | None:
    """Name the training set of a run by the text of its config, ``None`` if that does not tell."""
    try:
        return describe_dataset(config_from_text(config).train_dataloader.dataset)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def describe_checkpoint(checkpoint: str | Path | None) -> str:
    """Name a teacher by its weights, wherever they lie: the name of the file and the first digits of its SHA-256.

    Published checkpoints bear such digits in their names, which then are enough; so a download and its URL are the same.
    """
    if checkpoint is None:
        return 'untrained'
    path = Path(checkpoint)
    if PUBLISHED.search(path.stem) or not path.is_file():
        return path.name
    return f'{path.name} ({file_digest(path)[:8]})'


class TeacherErrorRange(nn.Module):
    """η, the range of a teacher's errors: given, measured before, or as seen so far.

    What was seen so far is kept in the checkpoint, and is that of all processes together; it moves in training mode only.
    It begins narrow, so that at first even small errors count as great ones.

    Args:
        source: η itself; the path of a file of :func:`write_teacher_errors`; or ``'running'``.
        percentile: For a file, the percentile that stands for the greatest error: one sample that the teacher fails on
            makes η so large that all others are trusted alike.
        measure: What an error is; a file must have been measured by the same.

    Raises:
        ValueError: If the number is negative, the file does not fit, or ``percentile`` is set without a file.

    Example:
        >>> errors = TeacherErrorRange('running')
        >>> errors(torch.tensor([0.25, 0.01, 0.09]))
        tensor(0.2400)
    """

    least: Tensor
    greatest: Tensor

    def __init__(self, source: float | str = RUNNING, percentile: float | None = None, measure: str = '') -> None:
        super().__init__()
        self.source = source
        self.measured: TeacherErrors | None = None
        self.value: float | None = None
        if isinstance(source, str) and source != RUNNING:
            self.measured = self._read(source, measure)
            self.value = self.measured.range(percentile)
        elif percentile is not None:
            raise ValueError(f'percentile needs errors that were measured before, but error_range is {source!r}')
        elif not isinstance(source, str):
            check_not_negative('error_range', source)
            self.value = float(source)
        if self.value is None:
            self.register_buffer('least', torch.tensor(math.inf))
            self.register_buffer('greatest', torch.tensor(-math.inf))

    def _read(self, path: str, measure: str) -> TeacherErrors:
        try:
            errors = read_teacher_errors(path)
        except ValueError as error:
            raise ValueError(f'error_range: {error}') from error
        if errors.measure != measure:
            raise ValueError(f"error_range: '{path}' holds errors in '{errors.measure}', this needs '{measure}'")
        return errors

    def check_run(self, config: str | None, checkpoint: str | None) -> None:
        """Raise a ValueError if the file is about another dataset or another teacher than the run's.

        Args:
            config: The text of the run's config, if there is one.
            checkpoint: The teacher's.
        """
        if self.measured is None:
            return
        dataset = training_set(config or '')
        if dataset is None:
            print_log(f"cannot tell whether '{self.source}' is about this run's dataset", logger='current', level=30)
        pairs = (
            ('dataset', self.measured.dataset, dataset or self.measured.dataset),
            ('teacher', self.measured.teacher, describe_checkpoint(checkpoint)),
        )
        for what, measured, own in pairs:
            if measured != own:
                raise ValueError(
                    f"error_range: '{self.source}' was measured for the {what} '{measured}', and this run's is '{own}': "
                    'measure the errors again'
                )

    def forward(self, errors: Tensor) -> Tensor:
        """Return η, a scalar in float32; in training mode, the running range takes ``errors`` in first.

        Args:
            errors: The teacher's errors on the samples of a step, of any shape; there may be none, but every process has
                to call.
        """
        if self.value is not None:
            return errors.new_tensor(self.value, dtype=torch.float32)
        if self.training:
            self._take_in(errors.detach().float().flatten())
        return (self.greatest - self.least).clamp(min=0)

    def _take_in(self, errors: Tensor) -> None:
        # One message for both: the least error is the greatest of their negatives.
        ends = torch.stack([-self.least, self.greatest])
        if len(errors):
            ends = torch.maximum(ends, torch.stack([-errors.min(), errors.max()]).to(ends))
        all_reduce(ends, op='max')
        self.least.copy_(-ends[0])
        self.greatest.copy_(ends[1])

    def extra_repr(self) -> str:
        return repr(self.source)

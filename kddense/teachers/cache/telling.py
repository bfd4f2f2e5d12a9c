"""What a cache says: how much it will take, what its form loses, whether what is read is what would be computed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from kddense.errors import ConfigError

from .forms import Form
from .records import Kept, restore

FAR = 1e-2  # of the largest value: more is no rounding of another machine
FEW = 1e-2  # of the values, that may be as far where rounding moves a class in or out of those that are kept


class Teller:
    """Says things once, in the log.

    Args:
        name: The config key that messages name.
        folder: Of the cache.
        form: How values are kept.
    """

    def __init__(self, name: str, folder: Path, form: Form) -> None:
        self.name = name
        self.folder = folder
        self.form = form
        self._needs: dict[tuple[Any, ...], int] = {}
        self._has_compared = False

    def found(self, records: int) -> None:
        """Tell how many answers are there."""
        self._say(f'{records} answers are there' if records else 'no answer is there yet')

    def not_kept(self, why: str) -> None:
        """Tell that a question is asked each time."""
        self._say(f'asked each time, as this cannot be kept: {why}', level=30)

    def before_the_first(self, kept: Kept, about: Mapping[str, Any], what: Any) -> None:
        """Tell before anything is written what all of it will take, of each data set, and what is lost."""
        of = (str(what), *(about[key] for key in ('images', 'variants', 'pipeline')))
        if of in self._needs:
            return
        self._needs[of] = kept.bytes * about['images'] * about['variants']
        free = shutil.disk_usage(self.folder).free
        need = sum(self._needs.values())
        short = '; the cache will end when the disk is full, the training will not' if need > free else ''
        self._say(
            f'{about["images"]} images x {about["variants"]} variants x {kept.bytes / 2**20:.3g} MiB: all answers take '
            f'{need / 2**30:.3g} GiB, {free / 2**30:.3g} GiB are free{short}',
            level=30 if short else 20,
        )
        if not self.form.is_exact:
            self._say(f"kept as '{self.form.name}': {self._lost(kept)}")

    def _lost(self, kept: Kept) -> str:
        _, read = restore(kept.records, _NO_MODEL, torch.device('cpu'))
        pairs = [(own.cpu().float(), other.float()) for own, other in zip(kept.values, read, strict=True)]
        gaps = [_gaps(own, other) for own, other in pairs]
        largest = max((gap.max().item() for gap in gaps if gap.numel()), default=0.0)
        square = sum(gap.square().sum().item() for gap in gaps)
        energy = sum(own[own.isfinite()].square().sum().item() for own, _ in pairs)
        share = 100 * (square / max(energy, 1e-30)) ** 0.5
        return f'the largest error is {largest:.3g}, the root of the mean square {share:.3g} % of that of the values'

    def compare(self, fresh: Sequence[Tensor], stored: Sequence[Tensor]) -> None:
        """Compare what is computed with what is read.

        Raises:
            ConfigError: If they are not the same but for rounding.
        """
        if all(map(_same, fresh, stored)):
            return
        worst = max(map(_difference, fresh, stored))
        moved = max(map(_far_share, fresh, stored)) if self.form.name == 'top_k' else 1.0
        if not worst <= FAR and not moved <= FEW:
            raise ConfigError(
                f"'{self.folder}' holds answers that are not this teacher's (they differ by {100 * worst:.2g} % of the "
                'largest value): give another folder; this one stays as it is',
                f'{self.name}.folder',
            )
        if not self._has_compared:
            self._has_compared = True
            self._say(
                f'what is read differs by {100 * worst:.2g} % from what this machine computes: this run is not bit for bit '
                'one without the cache',
                level=30,
            )

    def _say(self, text: str, level: int = 20) -> None:
        print_log(f"{self.name}.folder '{self.folder}': {text}", logger='current', level=level)


class _Nothing(torch.nn.Module):
    def get_submodule(self, target: str) -> Any:
        return None


_NO_MODEL = _Nothing()


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _difference(one: Tensor, other: Tensor) -> float:
    """Return the largest gap, as a share of the largest value."""
    shares = _shares(one, other)
    return shares.max().item() if shares.numel() else 0.0


def _far_share(one: Tensor, other: Tensor) -> float:
    """Return the share of values that are far from each other."""
    shares = _shares(one, other)
    return (shares > FAR).float().mean().item() if shares.numel() else 0.0


def _shares(one: Tensor, other: Tensor) -> Tensor:
    """Return gaps as shares of the largest value, all infinite if there are not as many values."""
    if one.shape != other.shape:
        return torch.full((1,), float('inf'))
    if not one.numel():
        return torch.zeros(0)
    one, other = one.float(), other.float()
    largest = other.nan_to_num(posinf=0, neginf=0).abs().max().clamp(min=1e-12)
    return _gaps(one, other).nan_to_num(nan=float('inf')) / largest


def _gaps(one: Tensor, other: Tensor) -> Tensor:
    """Return how far values are from each other: 0 where both are infinite or no numbers, NaN or infinite where one is."""
    return torch.where((one == other) | (one.isnan() & other.isnan()), 0.0, (one - other).abs())

"""What was distilled, for pictures: feature energy, and affinities between positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kddense.exchange import Question, Shown
from kddense.objectives import Objective
from kddense.random_state import forked_random_state
from kddense.registry import MODELS
from kddense.taps import tensors_of
from kddense.views import ModelView

from .pictures import draw_heat, mark

NODES = (16, 32)  # at most so many places, down and across


@dataclass(frozen=True)
class Knowledge:
    """What a model shows of one image, where objectives compare it.

    Attributes:
        energy: See :func:`feature_energy`, ``(h, w)``.
        affinities: See :func:`affinities`, ``(h', w', h', w')``; ``None`` where no objective compares pairs.
    """

    energy: np.ndarray
    affinities: Tensor | None = None

    def draw_energy(self, image: np.ndarray) -> np.ndarray:
        """Lay the energy over the image ``(H, W, 3)``."""
        return draw_heat(image, self.energy)

    def draw_affinities(self, image: np.ndarray, place: tuple[int, int]) -> np.ndarray:
        """Lay over the image how alike every place is to one of them, row and column, which is marked by a ring."""
        assert self.affinities is not None
        row, column = place
        height, width = self.affinities.shape[:2]
        picture = draw_heat(image, (self.affinities[row, column].numpy() + 1) / 2)
        return mark(picture, ((row + 0.5) / height, (column + 0.5) / width))

    def most_telling_place(self) -> tuple[int, int]:
        """Return the place, row and column, that is most alike to some places and most unlike others."""
        assert self.affinities is not None
        height, width = self.affinities.shape[:2]
        spread = self.affinities.flatten(2).std(-1)
        return divmod(int(spread.argmax()), width) if height * width > 1 else (0, 0)

    def nearest(self, place: tuple[int, int], other: Knowledge) -> tuple[int, int]:
        """Return the place of this grid, row and column, that is where ``place`` is in the grid of another model."""
        assert self.affinities is not None
        assert other.affinities is not None
        own, theirs = self.affinities.shape[:2], other.affinities.shape[:2]
        row, column = (min(at * cells // size, cells - 1) for at, cells, size in zip(place, own, theirs, strict=True))
        return row, column

    def distance(self, teacher: Knowledge) -> float | None:
        """Return the mean squared difference of the affinities to a teacher's, which pair-wise distillation lowers."""
        if self.affinities is None or teacher.affinities is None:
            return None
        own, other = (_over(grid, teacher.affinities.shape[:2]) for grid in (self.affinities, teacher.affinities))
        return float((own - other).square().mean())


def _over(grid: Tensor, size: Sequence[int]) -> Tensor:
    """Resize affinities to another number of places."""
    if grid.shape[:2] == torch.Size(size):
        return grid
    height, width = size
    half = F.interpolate(grid.flatten(0, 1)[:, None], size=(height, width), mode='bilinear', align_corners=False)
    other = half.view(*grid.shape[:2], height * width).permute(2, 0, 1)[:, None]
    return F.interpolate(other, size=(height, width), mode='bilinear', align_corners=False).view(
        height, width, height, width
    )


def shown_by(objectives: Mapping[str, Mapping[str, Any]]) -> list[Shown]:
    """Return what the objectives of a config show.

    Args:
        objectives: Their configs by name. One that cannot be built, such as for want of a file that it reads, shows
            nothing, and neither does one that is off.
    """
    shown = []
    for config in objectives.values():
        try:
            with forked_random_state():
                objective = MODELS.build(dict(config))
        except Exception:  # of any library, for any reason; it is only asked where to look
            continue
        if isinstance(objective, Objective) and not objective.is_off:
            shown.append(objective.shown())
    return shown


@torch.no_grad()
def look(view: ModelView, batch: Mapping[str, Any], shown: Sequence[Shown], side: str) -> Knowledge:
    """Ask a model in eval mode what it shows of the first image of a batch.

    Args:
        view: The model.
        batch: As a loader gives it to the model.
        shown: What the objectives show: they say where to look.
        side: ``'student'`` or ``'teacher'``.
    """
    data = view.model.data_preprocessor(batch, False)
    images, size = data['inputs'], data['data_samples'][0].img_shape[:2]
    kind = next((one.pairs for one in shown if one.pairs is not None), None)
    tap = shared_tap(shown, view, side)
    answer = view.answer(question(tap, kind), images.to(view.image_dtype()))
    padded = images.shape[-2:]
    pairs = affinities(inside(answer.opinions[kind][0].feature[0], size, padded)) if kind else None
    return Knowledge(feature_energy(inside(map_at(answer.taps[tap]), size, padded)), pairs)


def feature_energy(feature: Tensor) -> np.ndarray:
    """Return the length of the feature at each place, scaled to 0..1 over the map.

    Args:
        feature: ``(C, h, w)``.

    Returns:
        ``(h, w)``; all 0 where the map has one value only.
    """
    length = feature.detach().float().square().mean(0).sqrt()
    low, high = length.min(), length.max()
    return ((length - low) / (high - low).clamp(min=1e-12)).cpu().numpy()


def affinities(feature: Tensor) -> Tensor:
    """Return the cosine of the features of any two places (section 3.2.2 of structured distillation).

    Places are averages over a grid of at most 16 x 32.

    Args:
        feature: ``(C, h, w)``.

    Returns:
        ``(h', w', h', w')`` on the CPU, in -1..1.
    """
    height, width = (min(cells, most) for cells, most in zip(feature.shape[-2:], NODES, strict=True))
    nodes = F.adaptive_avg_pool2d(feature.detach().float()[None], (height, width))[0].flatten(1)
    unit = F.normalize(nodes, dim=0)
    return (unit.T @ unit).view(height, width, height, width).cpu()


def shared_tap(shown: Sequence[Shown], view: ModelView, side: str) -> str:
    """Return where to look at features: where the first objective with a tap does, else the neck, else the backbone.

    Args:
        shown: What the objectives show.
        view: The model.
        side: ``'student'`` or ``'teacher'``.
    """
    for one in shown:
        tap = one.teacher_tap if side == 'teacher' else one.student_tap
        if tap is not None and not view.kinds_behind([tap]):  # whatever sees single boxes shows no map of the image
            return tap
    return 'neck' if getattr(view.model, 'neck', None) is not None else 'backbone'


def map_at(shown: Any) -> Tensor:
    """Return a map ``(C, h, w)`` of the first image out of what a tap heard: of a pyramid, the finest level."""
    maps = [tensor[0] for tensor in tensors_of(shown) if tensor.ndim == 4]
    if not maps:
        raise ValueError('the tap holds no map of shape (N, C, h, w)')
    return max(maps, key=lambda feature: feature.shape[-1])


def question(tap: str, kind: str | None) -> Question:
    """Return what to ask a model for its features at a tap and, with a pair-wise term, before its classifier."""
    return Question(frozenset({tap}), opinions=frozenset({kind} if kind else ()))


def inside(feature: Tensor, image: Sequence[int], padded: Sequence[int]) -> Tensor:
    """Cut the padding off a map ``(C, h, w)`` of an image that was padded at the right and the bottom."""
    height, width = (
        max(1, round(cells * own / all_of_it))
        for cells, own, all_of_it in zip(feature.shape[-2:], image, padded, strict=True)
    )
    return feature[:, :height, :width]

"""Depth from teachers whose scale and shift are not known, as Depth Anything and MiDaS give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kddense.connectors import match_size
from kddense.exchange import Answer, DepthOpinion, Shown, ViewError
from kddense.losses import DepthGradientLoss, ScaleShiftInvariantLoss
from kddense.losses._checks import check_choice, check_not_negative
from kddense.registry import MODELS
from kddense.taps import tensors_of
from kddense.views import ModelView, inside_images

from ._shared_numbers import SharedNumbers
from .base import Objective

SPACES = ('inverse', 'depth')


@MODELS.register_module()
class RelativeDepthObjective(Objective):
    """The student's depth follows a teacher's up to scale and shift: a pseudo-label of every pixel, with labels or without.

    Three terms: ``loss_global`` with both maps normalised as wholes; ``loss_local`` with both normalised within crops, so
    that near things do not decide how far ones are compared; ``loss_gradient``, the slopes of their difference. Each is
    averaged over images. All pixels that are no padding count, also those without a label of their own.

    Crops are our choice of parts, in the spirit of two papers: Zhang et al., "Hierarchical Normalization for Robust
    Monocular Depth Estimation", NeurIPS 2022, normalise within parts of the image or of the range of depth; He et al.,
    "Distill Any Depth", 2025, have teachers look at crops and at whole images.

    The student stays a metric one: its own losses, on however few labels, set scale and shift.

    Args:
        teacher_tap: Where the teacher has the map, ``(N, 1, h, w)``: ``''`` is what it returns. By default the teacher is a
            depth estimator as the student is, and its depth in metres is taken.
        space: What is compared: ``'inverse'`` depth, which most relative teachers give, or ``'depth'``. A map at a tap must
            be in it.
        local: Weight of the normalisation within crops; 0 leaves it out.
        crops: How many crops of each image.
        crop_size: Height and width of a crop, relative to the map's.
        gradient: Weight of the slopes; 0 leaves them out. 0.5 in MiDaS.
        scales: Resolutions of the slopes.
        align: See :class:`kddense.losses.ScaleShiftInvariantLoss`.
        trim: See there; of whole maps and of crops.
        mode: Of the slopes, see :class:`kddense.losses.DepthGradientLoss`.
        resize: Which side's map is resized to the other's size, ``'student'`` or ``'teacher'``.
        weight: See :class:`Objective`.
        teacher: See :class:`Objective`.

    Raises:
        ValueError: If an argument is none of these.
    """

    def __init__(
        self,
        teacher_tap: str | None = None,
        space: str = 'inverse',
        local: float = 0.0,
        crops: int = 4,
        crop_size: float = 0.5,
        gradient: float = 0.5,
        scales: int = 4,
        align: str = 'robust',
        trim: float | None = None,
        mode: str = 'code',
        resize: str = 'teacher',
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        check_choice('space', space, SPACES)
        check_choice('resize', resize, ('student', 'teacher'))
        check_not_negative('local', local)
        check_not_negative('gradient', gradient)
        if crops < 1:
            raise ValueError(f'crops must be at least 1, got {crops}')
        if not 0 < crop_size <= 1:
            raise ValueError(f'crop_size must be above 0 and at most 1, got {crop_size}')
        self.teacher_tap = teacher_tap
        self.space = space
        self.weights = dict(local=local, gradient=gradient)
        self.crops, self.crop_size = crops, crop_size
        self.resize = resize
        self.distance = ScaleShiftInvariantLoss(align, trim)
        self.slopes = DepthGradientLoss(align, scales, mode)
        self.loss_names = ('loss_global', *(f'loss_{name}' for name, value in self.weights.items() if value))
        self.teacher_taps = frozenset() if teacher_tap is None else frozenset({teacher_tap})
        side = 'kinds' if teacher_tap is None else 'student_kinds'
        setattr(self, side, frozenset({'pixels'}))
        self._cells: dict[str, Any] = {}

    def shown(self) -> Shown:
        return Shown(pairs='pixels') if self.teacher_tap is None else Shown()

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        views = [student, teacher] if self.teacher_tap is None else [student]
        for view in views:
            if not view.shows_depth:
                mend = '' if view is student else '; name with teacher_tap where it has a map of depth'
                raise ViewError(f'{view.owner} ({type(view.model).__name__}) does not estimate depth{mend}')
        super().bind(student, teacher)
        self._cells = teacher.cells
        if self.teacher_tap is not None:
            self._map_of(list(teacher.probe([self.teacher_tap])[self.teacher_tap]))

    def _map_of(self, values: Sequence[Tensor]) -> Tensor:
        if len(values) != 1 or values[0].dim() != 4 or values[0].shape[1] != 1:
            shapes = ', '.join(str(tuple(value.shape)) for value in values)
            raise ValueError(
                f"teacher_tap '{self.teacher_tap}' must hold one map of depth, (N, 1, h, w), it holds {shapes}"
            )
        return values[0]

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        assert seen.batch is not None
        (own,) = seen.opinions['pixels']
        student, teacher = self._in_space(own), self._taught(taught)
        student, teacher = match_size(student, teacher, self.resize, image=seen.batch.inputs.shape[-2:], **self._cells)
        inside = inside_images(seen.batch.inputs, seen.batch.data_samples)[:, None]
        valid = F.interpolate(inside.float(), student.shape[-2:], mode='nearest-exact') > 0
        maps = (student, teacher, valid & teacher.isfinite())
        losses = {'loss_global': self.distance(*maps)}
        if self.weights['local']:
            losses['loss_local'] = self.weights['local'] * self.distance(*self._cropped(maps))
        if self.weights['gradient']:
            losses['loss_gradient'] = self.weights['gradient'] * self.slopes(*maps)
        return losses

    def _in_space(self, opinion: DepthOpinion) -> Tensor:
        return 1 / opinion.depth if self.space == 'inverse' else opinion.depth

    def _taught(self, taught: Answer) -> Tensor:
        if self.teacher_tap is None:
            (opinion,) = taught.opinions['pixels']
            return self._in_space(opinion)
        return self._map_of(list(tensors_of(taught.taps[self.teacher_tap])))

    def _cropped(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return crops of all maps at the same places, by the run's seed and iteration: ``(N * crops, 1, h, w)``."""
        height, width = maps[0].shape[-2:]
        sides = [max(round(length * self.crop_size), 1) for length in (height, width)]
        places = SharedNumbers().draw((len(maps[0]), self.crops, 2), maps[0].detach().float())
        free = places.new_tensor([height - sides[0] + 1, width - sides[1] + 1])
        corners = (places * free).long().clamp(max=free.long() - 1).tolist()
        cut = [
            [one[image : image + 1, :, y : y + sides[0], x : x + sides[1]] for one in maps]
            for image, drawn in enumerate(corners)
            for y, x in drawn
        ]
        return [torch.cat(parts) for parts in zip(*cut, strict=True)]

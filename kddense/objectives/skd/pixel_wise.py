"""Pixel-wise distillation (section 3.2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kddense.connectors import match_size
from kddense.exchange import MapOpinion, MapSample
from kddense.losses import PixelWiseLoss
from kddense.losses.logit_std import check_standardize
from kddense.registry import MODELS
from kddense.views import ModelView, check_depth_scale

from ..heads import HeadObjective
from ._common import either_is_depth, kind_of_classes


@MODELS.register_module()
class PixelWiseObjective(HeadObjective):
    """Pixel-wise distillation (section 3.2.1): the class probabilities of every pixel, one by one.

    On depth estimators that classify into bins, the probabilities of the bins; the paper found no gain from it there. On
    dense heads, the score maps of the levels: each class a yes or no of its own, summed over classes and anchors, averaged
    over the positions of a level.

    Args:
        mode: ``'paper'``: averaged over pixels. ``'code'``: cross-entropy with the teacher's probabilities, summed over the
            images of a batch and averaged over the positions.
        direction: ``'teacher_student'``: KL(teacher ‖ student), which every released code runs and which did better in
            all our measurements. ``'student_teacher'``: the other way round, as the paper's text has it.
        temperature: Softens both; the paper has none.
        ignore_unlabelled_pixels: Leave out pixels whose label is the ignore index. Padding that the preprocessor adds
            bears that label too. The paper compares all.
        classes: ``'softmax'`` or ``'sigmoid'``; by default what the student's own loss says.
        standardize: Logit standardisation (Sun et al. 2024): before the softmax, both networks' logits are brought to mean 0
            and standard deviation 1 over classes; see :func:`kddense.losses.standardize_logits`. Its paper has the
            temperature 2.
        weight: The paper's λ1.
        **kwargs: See :class:`HeadObjective`.
    """

    def __init__(
        self,
        mode: str = 'paper',
        direction: str = 'teacher_student',
        temperature: float = 1.0,
        ignore_unlabelled_pixels: bool = False,
        classes: str | None = None,
        standardize: bool = False,
        weight: float | str | Mapping[str, Any] = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, **kwargs)
        self.loss = PixelWiseLoss(mode, direction, temperature, classes or 'softmax', standardize)
        self.classes = classes
        self.ignore_unlabelled_pixels = ignore_unlabelled_pixels
        self.on_bins = False

    @property
    def compares_classes(self) -> bool:
        return not self.on_bins

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        self.on_bins = either_is_depth(student, teacher)
        if self.on_bins:
            check_depth_scale(student, teacher, bins=True)
        super().bind(student, teacher)
        self.loss.classes = self.classes or kind_of_classes(student, self.kind)
        check_standardize(self.loss.standardize, self.loss.classes)

    def judge(self, index: int, sample: MapSample, own: MapOpinion, other: MapOpinion) -> Tensor:
        student, teacher = match_size(own.logits, other.logits, self.resize)
        mask = sample.valid_at(student.shape[-2:]) if self.ignore_unlabelled_pixels else None
        return self.loss(student, teacher, mask)

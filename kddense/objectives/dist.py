"""Huang, You, Wang, Qian, Xu, Knowledge Distillation from A Stronger Teacher, NeurIPS 2022."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from kddense.losses import DISTLoss
from kddense.registry import MODELS

from .classes import ClassObjective, Judged


@MODELS.register_module()
class DISTObjective(ClassObjective):
    """DIST: how class probabilities correlate, within each sample and within each class; see
    :func:`kddense.losses.relation_distance`.

    Samples are the pixels of a segmentor (of a depth estimator with bins too), the sampled RoIs of a two-stage detector,
    and of a one-stage detector the places that are positive: of the others, whose scores are all next to 0, a correlation
    tells nothing. The paper's detectors are two-stage ones, and one-stage ones by their features.

    Args:
        inter: The paper's β.
        intra: The paper's γ.
        temperature: The paper's τ; 1 for segmentation.
        ignore_unlabelled_pixels: Leave out pixels whose label is the ignore index, and padding. The authors' code
            compares all.
        on: See :class:`ClassObjective`.
        classes: See :class:`ClassObjective`.
        resize: See :class:`ClassObjective`.
        weight: See :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    takes_bins = True

    def __init__(
        self,
        inter: float = 1.0,
        intra: float = 1.0,
        temperature: float = 1.0,
        ignore_unlabelled_pixels: bool = False,
        on: Literal['decode_head', 'auxiliary_head', 'roi_head', 'bbox_head'] | None = None,
        classes: Literal['softmax', 'sigmoid'] | None = None,
        resize: Literal['student', 'teacher'] = 'student',
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(on=on, classes=classes, resize=resize, weight=weight, teacher=teacher)
        self.loss = DISTLoss(inter=inter, intra=intra, temperature=temperature)
        self.ignore_unlabelled_pixels = ignore_unlabelled_pixels

    def judge(self, judged: Judged) -> Tensor:
        if self.kind == 'dense':
            positive = judged.sample.positive
            return self.loss(judged.student[positive], judged.teacher[positive])
        mask = None
        if self.kind != 'roi' and self.ignore_unlabelled_pixels:
            mask = judged.sample.valid_at(judged.student.shape[-2:])
        return self.loss(judged.student, judged.teacher, mask)

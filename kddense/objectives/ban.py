"""Furlanello, Lipton, Tschannen, Itti, Anandkumar, Born-Again Neural Networks, ICML 2018."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from kddense.losses import BANLoss
from kddense.registry import MODELS

from ._averages import averaged
from ._shared_numbers import SharedNumbers
from .classes import AveragedClassObjective, Judged


@MODELS.register_module()
class BANObjective(AveragedClassObjective):
    """BAN: an equal teacher's classes at temperature 1, or only how sure it is, or all but its best guess permuted; see
    :class:`kddense.losses.BANLoss`.

    Samples are the sampled RoIs of a two-stage detector, the pixels of a segmentor, and the places of a one-stage detector
    that its own classification loss looks at; the paper has images. Permutations depend on the run's seed and iteration
    alone.

    Args:
        mode: ``'soft'``, ``'cwtm'`` or ``'dkpp'``. The paper's BAN drops the labels (``task_weights={'.*': 0}``), BAN+L
            keeps them.
        average: Of one-stage detectors, what the sum over places is divided by, ``'rows'`` or ``'positives'``; see
            :class:`DenseHintonObjective`. CWTM is a weighted mean over all places.
        on: See :class:`ClassObjective`.
        classes: See :class:`ClassObjective`.
        resize: See :class:`ClassObjective`.
        weight: See :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    def __init__(
        self,
        mode: Literal['soft', 'cwtm', 'dkpp'] = 'soft',
        average: Literal['rows', 'positives'] = 'rows',
        on: Literal['decode_head', 'auxiliary_head', 'roi_head', 'bbox_head'] | None = None,
        classes: Literal['softmax', 'sigmoid'] | None = None,
        resize: Literal['student', 'teacher'] = 'student',
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(average=average, on=on, classes=classes, resize=resize, weight=weight, teacher=teacher)
        self.loss = BANLoss(mode)
        self.needs_labels = mode == 'cwtm'

    def judge(self, judged: Judged) -> Tensor:
        numbers = None
        if self.loss.mode == 'dkpp':
            numbers = SharedNumbers().draw(judged.student.numel(), judged.student.detach()).view_as(judged.student)
        loss = self.loss(judged.student, judged.teacher, judged.labels, numbers)
        return loss if self.loss.mode == 'cwtm' else averaged(loss, judged.sample, self.average)

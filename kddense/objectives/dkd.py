"""Zhao, Cui, Song, Qiu, Liang, Decoupled Knowledge Distillation, CVPR 2022."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from kddense.losses import DKDLoss, standardize_logits
from kddense.losses.logit_std import check_standardize
from kddense.registry import MODELS
from kddense.views import ModelView

from ._averages import averaged
from .classes import AveragedClassObjective, Judged


@MODELS.register_module()
class DKDObjective(AveragedClassObjective):
    """DKD: soft targets with the true class and the others weighted apart; see
    :func:`kddense.losses.decoupled_divergence`.

    Samples are the sampled RoIs of a two-stage detector, with the background for a class, as the authors have it; the pixels
    of a segmentor that have a label; the places of a one-stage detector that its own classification loss looks at, each
    class a yes or no of its own. For the last two the paper has no numbers.

    Args:
        alpha: The paper's α, of the true class.
        beta: The paper's β, of the other classes: 0.25 for detectors.
        temperature: The paper's T: 1 for detectors.
        standardize: Logit standardisation (Sun et al. 2024): both networks' logits are first brought to mean 0 and standard
            deviation 1 over classes; for softmax classes, with a temperature of 2.
        average: Of one-stage detectors, what the sum over places is divided by: ``'rows'``, their number, or
            ``'positives'``; see :class:`DenseHintonObjective`.
        on: See :class:`ClassObjective`.
        classes: See :class:`ClassObjective`.
        resize: See :class:`ClassObjective`.
        weight: See :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    needs_labels = True

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 0.25,
        temperature: float = 1.0,
        standardize: bool = False,
        average: Literal['rows', 'positives'] = 'rows',
        on: Literal['decode_head', 'auxiliary_head', 'roi_head', 'bbox_head'] | None = None,
        classes: Literal['softmax', 'sigmoid'] | None = None,
        resize: Literal['student', 'teacher'] = 'student',
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(average=average, on=on, classes=classes, resize=resize, weight=weight, teacher=teacher)
        self.standardize = standardize
        self.loss = DKDLoss(alpha=alpha, beta=beta, temperature=temperature)

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        check_standardize(self.standardize, self.loss.classes)

    def judge(self, judged: Judged) -> Tensor:
        assert judged.labels is not None
        logits = (judged.student, judged.teacher)
        if self.standardize:
            logits = (standardize_logits(judged.student), standardize_logits(judged.teacher))
        loss = self.loss(*logits, judged.labels)
        return averaged(loss, judged.sample, self.average)

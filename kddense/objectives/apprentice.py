"""Mishra, Marr, Apprentice, ICLR 2018; Polino, Pascanu, Alistarh, quantized distillation, ICLR 2018: soft targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from kddense.losses import ApprenticeLoss, QuantizedDistillationLoss
from kddense.registry import MODELS

from .classes import AveragedClassObjective


@MODELS.register_module()
class ApprenticeObjective(AveragedClassObjective):
    """Apprentice: the classes of a teacher of full precision; see :class:`kddense.losses.ApprenticeLoss`.

    It belongs to a student that a :class:`kddense.QuantiseHook` quantises, and to ``task_weights={'.*': 0.5}``, the paper's
    β. Samples are the sampled RoIs of a two-stage detector, the pixels of a segmentor, and the places of a one-stage
    detector that its own classification loss looks at; the paper has images.

    Args:
        average: Of one-stage detectors, what the sum over places is divided by, ``'rows'`` or ``'positives'``; see
            :class:`DenseHintonObjective`.
        on: See :class:`ClassObjective`.
        classes: See :class:`ClassObjective`.
        resize: See :class:`ClassObjective`.
        weight: The paper's γ; see :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    def __init__(
        self,
        average: Literal['rows', 'positives'] = 'rows',
        on: Literal['decode_head', 'auxiliary_head', 'roi_head', 'bbox_head'] | None = None,
        classes: Literal['softmax', 'sigmoid'] | None = None,
        resize: Literal['student', 'teacher'] = 'student',
        weight: float | str | Mapping[str, Any] = 0.5,
        teacher: str | None = None,
    ) -> None:
        super().__init__(average=average, on=on, classes=classes, resize=resize, weight=weight, teacher=teacher)
        self.loss = ApprenticeLoss()


@MODELS.register_module()
class QuantizedDistillationObjective(AveragedClassObjective):
    """Soft targets for a quantised student; see :class:`kddense.losses.QuantizedDistillationLoss`.

    It belongs to a student that a :class:`kddense.QuantiseHook` quantises, and to ``task_weights={'.*': 0.3}``, the paper's
    1 - a. Samples are those of :class:`ApprenticeObjective`.

    Args:
        temperature: τ, above 0.
        mode: ``'code'`` also averages over classes, ``'paper'`` does not.
        average: See :class:`ApprenticeObjective`.
        on: See :class:`ClassObjective`.
        classes: See :class:`ClassObjective`.
        resize: See :class:`ClassObjective`.
        weight: The paper's a; see :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    def __init__(
        self,
        temperature: float = 2.0,
        mode: Literal['code', 'paper'] = 'code',
        average: Literal['rows', 'positives'] = 'rows',
        on: Literal['decode_head', 'auxiliary_head', 'roi_head', 'bbox_head'] | None = None,
        classes: Literal['softmax', 'sigmoid'] | None = None,
        resize: Literal['student', 'teacher'] = 'student',
        weight: float | str | Mapping[str, Any] = 0.7,
        teacher: str | None = None,
    ) -> None:
        super().__init__(average=average, on=on, classes=classes, resize=resize, weight=weight, teacher=teacher)
        self.loss = QuantizedDistillationLoss(temperature, mode)

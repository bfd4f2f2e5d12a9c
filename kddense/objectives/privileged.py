"""Lopez-Paz, Bottou, Schölkopf, Vapnik, Unifying Distillation and Privileged Information, ICLR 2016."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from kddense.losses import ImitationLoss
from kddense.registry import MODELS

from .classes import AveragedClassObjective


@MODELS.register_module()
class PrivilegedObjective(AveragedClassObjective):
    """Generalized distillation: the student imitates the classes of a teacher that sees more than it does; see
    :func:`kddense.losses.imitation`.

    What the teacher sees is the teacher's business: ``image='teacher_img'`` or ``input_scale``. The paper's λ is ``weight``,
    its 1 - λ the ``task_weights`` of the classification loss.

    Args:
        temperature: The paper's T, of the teacher's classes alone.
        mode: ``'paper'``, or ``'code'``: times T².
        average: Of one-stage detectors, what the sum over places is divided by, ``'rows'`` or ``'positives'``; see
            :class:`DenseHintonObjective`.
        on: See :class:`ClassObjective`.
        classes: See :class:`ClassObjective`.
        resize: See :class:`ClassObjective`.
        weight: The paper's λ; see :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        mode: Literal['paper', 'code'] = 'paper',
        average: Literal['rows', 'positives'] = 'rows',
        on: Literal['decode_head', 'auxiliary_head', 'roi_head', 'bbox_head'] | None = None,
        classes: Literal['softmax', 'sigmoid'] | None = None,
        resize: Literal['student', 'teacher'] = 'student',
        weight: float | str | Mapping[str, Any] = 0.5,
        teacher: str | None = None,
    ) -> None:
        super().__init__(average=average, on=on, classes=classes, resize=resize, weight=weight, teacher=teacher)
        self.loss = ImitationLoss(temperature, mode)

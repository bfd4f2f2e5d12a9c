"""Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries", AAAI 2019."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kddense.losses import ABLoss
from kddense.registry import MODELS

from .base import BeforeReLUObjective


@MODELS.register_module()
class ABObjective(BeforeReLUObjective):
    """Activation boundaries: which neurons are on, before how strongly.

    The paper trains this alone first, and then the task: see :class:`kddense.RestHook`.

    Args:
        margin: The paper's μ, above 0; 1 presumes values of about that size, as behind the connector's norm.
        weight: The authors' for a ResNet-50 as teacher on images of 224x224; they have 3e-3 on images of 32x32. The
            loss is a sum over positions.
        **kwargs: See :class:`BeforeReLUObjective`.
    """

    def __init__(self, margin: float = 1.0, weight: float | str | Mapping[str, Any] = 1e-3, **kwargs: Any) -> None:
        super().__init__(weight=weight, **kwargs)
        self.loss = ABLoss(margin)

    def judge(self, level: int, own: Tensor, other: Tensor) -> Tensor:
        return self.loss(own, other)

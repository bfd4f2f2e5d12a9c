"""Heo et al., "A Comprehensive Overhaul of Feature Distillation", ICCV 2019."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from kddense.losses import OFDLoss, negative_mean
from kddense.registry import MODELS
from kddense.views import ModelView

from .base import BeforeReLUObjective


@MODELS.register_module()
class OFDObjective(BeforeReLUObjective):
    """OFD: values before the ReLU of each stage, as far as one of the networks lets them through.

    Each channel of the teacher has a margin, the mean of its values below 0 as its last batch norm before the ReLU lets
    expect them; a shortcut that is added behind that norm is not seen, as in the authors' code.

    Args:
        margin: ``None`` takes the margins from the teacher's batch norms, also where these are folded. A number, at most
            0, is the margin of every channel, for parts without a batch norm; ``'none'`` takes the teacher's values as
            they are.
        weight: The authors' for segmentation; 1e-4 on ImageNet, 1e-3 on CIFAR: the loss is a sum over positions.
        **kwargs: See :class:`BeforeReLUObjective`.
    """

    def __init__(
        self,
        margin: float | Literal['none'] | None = None,
        weight: float | str | Mapping[str, Any] = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, **kwargs)
        if margin == 'none':
            margin = -math.inf
        if margin is not None and not (isinstance(margin, (int, float)) and margin <= 0):
            raise ValueError(f"margin must be None, 'none' or a number that is at most 0, got {margin!r}")
        self.margin: float | None = margin
        self.loss = OFDLoss()

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        for level, place in enumerate(self.places['teacher']):
            margin = (
                torch.tensor(self.margin) if self.margin is not None else margins_of(teacher, place.tap, place.norm)
            )
            self.register_buffer(f'margin{level}', margin, persistent=False)

    def judge(self, level: int, own: Tensor, other: Tensor) -> Tensor:
        return self.loss(own, other, self.get_buffer(f'margin{level}'))


def margins_of(view: ModelView, tap: str, norm: str | None) -> Tensor:
    """Return the margin of each channel behind a batch norm, shape ``(C,)``.

    Raises:
        ValueError: If there is no such norm, or it is no batch norm.
    """
    layer: Any = None if norm is None else view.norm_at(norm)
    if not isinstance(layer, torch.nn.modules.batchnorm._NormBase):
        raise ValueError(
            f"'{tap}' of the {view.owner} has no batch norm before it that tells its margins: choose other parts, or set "
            "margin='none', or a number that is at most 0"
        )
    if layer.weight is None:
        statistics = layer.running_mean if layer.running_mean is not None else torch.zeros(layer.num_features)
        return negative_mean(torch.zeros_like(statistics), torch.ones_like(statistics))
    return negative_mean(layer.bias, layer.weight)

"""Mean teacher (Tarvainen and Valpola, NeurIPS 2017): the running average of the student as its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from kddense.errors import ConfigError
from kddense.registry import TEACHERS

from .frozen import FrozenTeacher


@TEACHERS.register_module()
class AverageTeacher(FrozenTeacher):
    """The exponential moving average of the student's weights and statistics; :class:`kddense.AverageTeacherHook` moves it.

    It begins as the student. After iteration t, counted from 1, each weight is ``m · own + (1 - m) · student's`` with
    ``m = min(1 - 1 / (t + 1), 1 - momentum)``: early on it forgets faster. It stands in the checkpoint beside the student.

    Args:
        config: That of the student: ``dict(model=_base_.model)``, or as of :class:`FrozenTeacher`.
        momentum: How much of the student is taken over in each iteration, above 0 and at most 1; the paper's is 0.001, for
            long trainings.
        name: What messages call it: the config key it came from.
        image: See :class:`ModelTeacher`.

    Raises:
        ValueError: If an argument does not fit.

    Example:
        >>> teacher = dict(type='kddense.AverageTeacher', config=dict(model=dict(type='FasterRCNN')), momentum=0.01)
    """

    unkept = 'it follows the student and changes with every iteration: take it out of the kddense.CachedTeacher'

    def __init__(
        self,
        config: str | Path | Config | Mapping[str, Any],
        momentum: float = 0.001,
        image: str | None = None,
        name: str = 'teacher',
    ) -> None:
        if not 0 < momentum <= 1:
            raise ValueError(f'{name}.momentum must be above 0 and at most 1, got {momentum}')
        super().__init__(config, None, name=name, image=image)
        self.momentum = momentum
        self._has_begun = False

    def check_ready(self) -> None:
        if not self._has_begun:
            raise ConfigError(
                ' is an average that nobody moves: add default_hooks = '
                "dict(average=dict(type='kddense.AverageTeacherHook'))",
                self.name,
            )

    def check_is(self, student: nn.Module) -> None:
        """Raise a ValueError unless it is of the student's architecture."""
        shapes = [{key: tuple(one.shape) for key, one in model.state_dict().items()} for model in (self.model, student)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f'{self.name}.config is of another model than the student, so it cannot be its average: give '
                'dict(model=_base_.model), the config of the student'
            )

    @torch.no_grad()
    def begin(self, student: nn.Module) -> None:
        """Take over the student as it is."""
        self.go_on(student.state_dict())

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Take over an average that was saved."""
        self.model.load_state_dict(state)
        self._has_begun = True

    @torch.no_grad()
    def follow(self, student: nn.Module, iteration: int) -> None:
        """Take over a share of the student.

        Args:
            student: The student.
            iteration: How many it has taken, at least 1.
        """
        share = max(1 / (iteration + 1), self.momentum)
        theirs = student.state_dict()
        for key, own in self.model.state_dict().items():
            if own.is_floating_point():
                own.lerp_(theirs[key].to(own), share)
            else:
                own.copy_(theirs[key])

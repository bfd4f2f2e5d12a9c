"""The symmetry of gradient attention (section 3.2): a mirrored image, mirrored attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kddense.exchange import Answer
from kddense.losses import gradient_distance
from kddense.random_state import forked_random_state
from kddense.registry import MODELS
from kddense.views import ModelView, twice_differentiable

from .._mirrored import mirrored, mirrored_images
from ..base import Objective
from .gradient import check_twice_differentiable, chosen_losses, differentiated


@MODELS.register_module()
class GradientSymmetryObjective(Objective):
    """The student's own loss is to depend on a mirrored image as on the image itself. It asks no teacher.

    ``‖J(x) - mirror(J(mirror(x)))‖₂`` with ``J = ∂L/∂x``, averaged over images. Images and labels are mirrored from left to
    right inside their padding. The student runs a second time, without moving its norms' statistics or the random
    numbers, and is differentiated twice.

    Args:
        losses: Which of the student's own losses, a regular expression of their names.
        weight: See :class:`Objective`; the paper's β/2.
    """

    differentiates_losses = True

    def __init__(self, losses: str = '.*', weight: float | str | Mapping[str, Any] = 1.0) -> None:
        super().__init__(weight=weight)
        self.losses = losses
        self._student: ModelView | None = None
        self._checked = False

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        self._student = student

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        assert self._student is not None
        assert seen.batch is not None
        own = dict(chosen_losses(seen.losses, self.losses))
        if torch.is_grad_enabled() and not self._checked:
            check_twice_differentiable(own, [seen.batch.inputs])
            self._checked = True
        batch = mirrored(seen.batch)
        batch.inputs.requires_grad_()
        with forked_random_state(), resting_statistics(self._student.model), twice_differentiable(self._student.model):
            other = self._student.learn(self._student.model, batch, (), ())
        (ours,) = differentiated(own, [seen.batch.inputs])
        (theirs,) = differentiated(dict(chosen_losses(other.losses, self.losses)), [batch.inputs])
        # Both sides learn: the loss is the same whichever of the two is mirrored.
        return {'loss': _distance(ours, mirrored_images(theirs, batch.data_samples))}


def _distance(own: Tensor, other: Tensor) -> Tensor:
    return gradient_distance(own - other, torch.zeros_like(own))


@contextmanager
def resting_statistics(model: nn.Module) -> Iterator[None]:
    """Context manager: batch norms normalise as before, by the batch if they train, and remember nothing."""
    norms = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    moving = [norm for norm in norms if norm.training and norm.track_running_stats]
    for norm in moving:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in moving:
            norm.track_running_stats = True

"""Attention transfer by gradients (section 3.2): how each network's own loss depends on the image, or on a feature."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kddense.connectors import match_size
from kddense.exchange import Answer, ImageFormat
from kddense.losses import attention_distance, gradient_distance
from kddense.options import check_pattern
from kddense.registry import MODELS
from kddense.taps import tensors_of
from kddense.views import ModelView

from ..base import Objective

IMAGE = 'backbone:input'
ENDS_HERE = 'torch::autograd::Error'  # what PyTorch puts behind the gradient of an operation that has no second one


@MODELS.register_module()
class GradientATObjective(Objective):
    """Gradient-based attention transfer: the student's own loss is to depend on the image as the teacher's does.

    ``‖J_S - J_T‖₂`` with ``J = ∂L/∂x``, averaged over images (section 3.2 of the paper). At a tap, where channels
    differ, the attention maps of the two gradients are compared: see :func:`kddense.losses.attention_distance`, in the
    paper's form, averaged over levels. The student is differentiated twice and the teacher once, which
    makes a step several times as dear.

    In two-stage detectors the losses of the RoI head have no second derivative, as RoIAlign's gradient has none: choose
    those of the RPN with ``losses='loss_rpn.*'``.

    Args:
        tap: ``None`` for the image, as in the paper, or where in the student, such as ``'backbone'`` or ``'neck'``.
        teacher_tap: Where in the teacher; the same place by default.
        levels: Which of the tap's maps, all by default.
        losses: Which of the networks' own losses, a regular expression of their names.
        weight: See :class:`Objective`; the paper's β/2, whose value for gradients is not published with code.
        teacher: See :class:`Objective`.
    """

    differentiates_losses = True

    def __init__(
        self,
        tap: str | None = None,
        teacher_tap: str | None = None,
        levels: Sequence[int] | None = None,
        losses: str = '.*',
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        self.tap = tap
        self.levels = levels
        check_pattern(losses, 'losses')
        self.losses = losses
        self.student_taps = frozenset() if tap is None else frozenset({tap})
        self.question = f'{teacher_tap or tap or IMAGE} of {losses}'
        self.gradient_taps = frozenset({self.question})
        self.image_format = ImageFormat()
        self._checked = False

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        self.image_format = teacher.image_format

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        assert seen.batch is not None
        theirs = taught.gradients[self.question]
        if self.tap is None:
            (own,) = self._gradients(seen, [seen.batch.inputs])
            return {'loss': gradient_distance(own, in_format(theirs[0], self.image_format, seen.batch.image_format))}
        features = list(tensors_of(seen.taps[self.tap]))
        if len(features) != len(theirs):
            raise ValueError(
                f"tap '{self.tap}' holds {len(features)} tensors in the student and {len(theirs)} in the teacher"
            )
        levels = range(len(features)) if self.levels is None else self.levels
        ours = self._gradients(seen, [features[level] for level in levels])
        pairs = [match_size(own, theirs[level]) for own, level in zip(ours, levels, strict=True)]
        losses = [attention_distance(own, other, mode='paper') for own, other in pairs]
        return {'loss': sum(losses[1:], losses[0]) / len(losses)}

    def _gradients(self, seen: Answer, values: list[Tensor]) -> list[Tensor]:
        chosen = dict(chosen_losses(seen.losses, self.losses))
        if torch.is_grad_enabled() and not self._checked:
            check_twice_differentiable(chosen, values)
            self._checked = True
        return differentiated(chosen, values)


def chosen_losses(losses: Mapping[str, Any], pattern: str) -> Iterator[tuple[str, Tensor]]:
    """Yield a student's own losses whose names match, each as one scalar.

    Raises:
        ValueError: If none does.
    """
    names = [name for name in losses if 'loss' in name and re.fullmatch(pattern, name)]
    if not names:
        raise ValueError(f"losses '{pattern}' matches none of the student's losses, {', '.join(losses)}")
    for name in names:
        terms = [value.float().mean() for value in tensors_of(losses[name])]  # as mmengine adds them
        yield name, sum(terms[1:], terms[0])


def differentiated(losses: Mapping[str, Tensor], values: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of the sum of losses by some values, 0 where it does not depend on one."""
    terms = list(losses.values())
    total = sum(terms[1:], terms[0])
    if not total.requires_grad:
        return [torch.zeros_like(value) for value in values]
    found = torch.autograd.grad(
        total, values, create_graph=torch.is_grad_enabled(), retain_graph=True, allow_unused=True
    )
    return [torch.zeros_like(value) if one is None else one.float() for one, value in zip(found, values, strict=True)]


def check_twice_differentiable(losses: Mapping[str, Tensor], values: Sequence[Tensor]) -> None:
    """Raise a ValueError that names the losses whose gradients cannot be differentiated again."""
    refused = [name for name, loss in losses.items() if not _has_second_derivative(loss, values)]
    if refused:
        kept = [re.escape(name) for name in losses if name not in refused]
        raise ValueError(
            f'{", ".join(refused)} of the student cannot be differentiated twice (RoIAlign, and other operators that are '
            'written in one piece, have no second derivative); '
            + (f"choose the other losses with losses='{'|'.join(kept)}'" if kept else 'remove this objective')
        )


def _has_second_derivative(loss: Tensor, values: Sequence[Tensor]) -> bool:
    gradients = [one for one in differentiated({'loss': loss}, values) if one.requires_grad]
    if any(ENDS_HERE in _names_of_graph(one) for one in gradients):
        return False
    terms = [one.square().sum() for one in gradients]
    try:
        torch.autograd.grad(terms, values, retain_graph=True, allow_unused=True)
    except RuntimeError:
        return False
    return True


def _names_of_graph(value: Tensor) -> set[str]:
    """Return the names of all operations that a value's gradient goes through."""
    waiting: list[Any] = [value.grad_fn]
    known: dict[Any, str] = {}
    while waiting:
        operation = waiting.pop()
        if operation is not None and operation not in known:
            known[operation] = operation.name()
            waiting += [before for before, _ in operation.next_functions]
    return set(known.values())


def in_format(gradient: Tensor, source: ImageFormat, target: ImageFormat) -> Tensor:
    """Return a gradient by an image normalised in one way as that by the same image normalised in another."""

    def by_channel(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, device=gradient.device, dtype=gradient.dtype).view(1, -1, 1, 1)

    gradient = gradient / by_channel(source.std)
    if source.reversed_channels != target.reversed_channels:
        gradient = gradient.flip(1)
    return gradient * by_channel(target.std)

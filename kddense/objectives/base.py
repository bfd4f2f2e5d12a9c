"""What all objectives share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from kddense.exchange import Shown
from kddense.objectives.schedules import WeightSchedule, build_schedule
from kddense.taps import Taps
from kddense.views import Answer, ModelView, ViewError


class Objective(nn.Module):
    """Compares one kind of knowledge of the student with the teacher's.

    A new objective sets ``kinds`` or taps, and computes its losses from the two answers in :meth:`forward`:

    Example:
        >>> from kddense.registry import MODELS
        >>> @MODELS.register_module()
        ... class LogitMatching(Objective):
        ...     kinds = frozenset({'roi'})
        ...     def forward(self, seen, taught):
        ...         pairs = zip(seen.opinions['roi'], taught.opinions['roi'])
        ...         return dict(loss_logits=sum((s.logits - t.logits).square().mean() for s, t in pairs))

    Args:
        weight: A number, or a dict of the arguments of :class:`kddense.objectives.schedules.WeightSchedule`.
        teacher: The name of the teacher to learn from; needed only if there are several.

    Attributes:
        kinds: Knowledge of the model family that it compares, such as ``'rpn'`` or ``'roi'``; see :mod:`kddense.views`.
        student_taps: Places in the student that it listens to.
        teacher_taps: Places in the teacher.
        trains_adversary: Whether it learns something against the student, which needs an optimiser of its own; see
            :class:`kddense.JointOptimWrapperConstructor`.
        own_losses: Losses for what it learns itself: the weight, which is of the student's losses, leaves them alone.
        has_optimizer: Set by the constructor of the optimisers.
    """

    kinds: frozenset[str] = frozenset()
    student_taps: frozenset[str] = frozenset()
    teacher_taps: frozenset[str] = frozenset()
    trains_adversary: bool = False
    own_losses: frozenset[str] = frozenset()

    def __init__(self, weight: float | Mapping[str, Any] = 1.0, teacher: str | None = None) -> None:
        super().__init__()
        self.schedule: WeightSchedule = build_schedule(weight)
        self.teacher = teacher
        self.has_optimizer = False

    @property
    def compares_classes(self) -> bool:
        """Whether it pairs the student's classes with the teacher's, which must then be the same ones."""
        return bool(self.kinds & {'roi', 'dense'})

    @property
    def is_off(self) -> bool:
        """Whether it never has any effect; it is then not built into the distiller at all."""
        return self.schedule.is_off

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        """Check that the two models can be compared, and build what stands between them. Called once, at build.

        Raises:
            ValueError: If they cannot; the message says why and what to do.
        """
        Taps(student.model, self.student_taps, student.owner)
        Taps(teacher.model, self.teacher_taps, teacher.owner)
        for kind in teacher.kinds_behind(self.teacher_taps):
            student.check(kind)
        for kind in sorted(self.kinds):
            student.check(kind)
            teacher.check_teacher(kind)
            differences = student.differences(teacher, kind)
            if differences:
                raise ViewError(
                    f'student and teacher do not speak about the same boxes: {"; ".join(differences)}. Give both configs '
                    'the same values (and train the teacher with them), or leave this objective out'
                )

    def check_run(self, config: str | None, checkpoint: str | None) -> None:
        """Check, before the first step of a run, what only the run can tell.

        Args:
            config: The text of the run's config, if there is one.
            checkpoint: The weights of the teacher that this learns from.

        Raises:
            ValueError: If this objective does not fit the run; the message says why and what to do.
        """

    def note_optimizer(self) -> None:
        """Note that what it learns has an optimiser of its own (called by the constructor of the optimisers)."""
        self.has_optimizer = True

    def task_scales(self) -> dict[str, float]:
        """Return factors for the student's own losses at full weight, by regular expression of their names."""
        return {}

    def shown(self) -> Shown:
        """Return what a report can show of this objective; nothing by default."""
        return Shown()

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        """Return scalar losses by name, not yet multiplied with :attr:`schedule`.

        Args:
            seen: What the student showed, with gradients.
            taught: What the teacher showed.
        """
        raise NotImplementedError


def mean_over_processes(number: float | Tensor, like: Tensor) -> Tensor:
    """Return a number of this step as the mean over all processes, as mmdet's heads take the divisors of their losses.

    Divided by it, the gradients of two processes with half the batch each average to those of one process.

    Args:
        number: The number here, such as the count of positives; no gradient flows into it.
        like: On whose device to return it.
    """
    mean = torch.as_tensor(number, dtype=torch.float32, device=like.device).detach().clone()
    all_reduce(mean, op='mean')
    return mean

"""What all objectives share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from kddense.exchange import Answer, Shown, ViewError, split_gradient
from kddense.taps import Taps
from kddense.views import ModelView

from .schedules import WeightSchedule
from .shares import AgreementStop, GradientShare, build_weight


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
        ...         return dict(loss=sum((s.logits - t.logits).square().mean() for s, t in pairs))

    Args:
        weight: A number; a percentage, ``'10%'``, which holds the norm of its gradient at that share of the task's, see
            :class:`kddense.objectives.shares.GradientShare`; or a dict of the arguments of
            :class:`kddense.objectives.schedules.WeightSchedule`, with either as its ``value``.
        teacher: The name of the teacher to learn from, or a list of names where it takes several; needed only if there
            are several teachers.

    Attributes:
        kinds: Knowledge of the model family that it compares, such as ``'rpn'`` or ``'roi'``; see :mod:`kddense.views`.
        student_kinds: Knowledge that the student alone must show.
        student_taps: Places in the student that it listens to.
        teacher_taps: Places in the teacher.
        gradient_taps: Places in the teacher where it asks for the gradient of the teacher's own loss, or of some of its
            losses: ``'neck of loss_rpn.*'``, a regular expression of their names.
        loss_names: The names of the losses that :meth:`forward` returns: each has one key in the log for the whole run.
        takes_several: Whether it may learn from several teachers at once: ``taught`` is then a dict by name.
        trains_adversary: Whether it learns something against the student, which needs an optimiser of its own; see
            :class:`kddense.JointOptimWrapperConstructor`.
        trains_alone: Whether the student's own losses do not count while it is active: the first of two stages.
        differentiates_losses: Whether it needs gradients of the student's own losses, by the image or by what a tap
            holds, that can be differentiated again.
        own_losses: Losses for what it learns itself: the weight, which is of the student's losses, leaves them alone.
        taught_by: The names of the teachers that it learns from, once it is attached.
        of_labelled: Whether it looks at ground-truth boxes, or at boxes that are to find them: it then compares the labelled
            images of a batch alone.
        share: What sets its weight, if that is a percentage.
        stop: What ends it when it no longer helps, if its weight has ``stop_below``.
    """

    share: GradientShare | None
    stop: AgreementStop | None
    kinds: frozenset[str] = frozenset()
    student_kinds: frozenset[str] = frozenset()
    student_taps: frozenset[str] = frozenset()
    teacher_taps: frozenset[str] = frozenset()
    gradient_taps: frozenset[str] = frozenset()
    loss_names: tuple[str, ...] = ('loss',)
    takes_several: bool = False
    trains_adversary: bool = False
    trains_alone: bool = False
    differentiates_losses: bool = False
    own_losses: frozenset[str] = frozenset()
    of_labelled: bool = False

    def __init__(
        self, weight: float | str | Mapping[str, Any] = 1.0, teacher: str | Sequence[str] | None = None
    ) -> None:
        super().__init__()
        built = build_weight(weight)
        self.schedule: WeightSchedule = built.schedule
        self.share = built.share
        self.stop = built.stop
        self.teacher = teacher
        self.taught_by: tuple[str, ...] = ()
        self.has_optimizer = False

    @property
    def asks_teacher(self) -> bool:
        """Whether it needs a teacher; one that asks none, such as mutual or self-distillation, does not."""
        return bool(self.kinds or self.teacher_taps or self.gradient_taps)

    @property
    def compares_classes(self) -> bool:
        """Whether it pairs the student's classes with the teacher's, which must then be the same ones."""
        return bool(self.kinds & {'roi', 'dense'})

    @property
    def measuring(self) -> list[GradientShare | AgreementStop]:
        """What of its weight is measured during the training."""
        return [one for one in (self.share, self.stop) if one is not None]

    @property
    def is_off(self) -> bool:
        """Whether it never has any effect; it is then not built into the distiller at all."""
        return self.schedule.is_off

    def choose_teachers(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the teachers that it learns from.

        Args:
            names: Of all teachers that there are.

        Raises:
            ValueError: If it needs one and there is none, names one that is not there, or several where it takes one.
        """
        chosen = [self.teacher] if isinstance(self.teacher, str) else self.teacher
        if chosen is None:
            chosen = list(names) if len(names) == 1 or self.takes_several else []
            if not chosen and not self.asks_teacher:
                return ()
        if not names:
            raise ValueError('there is no teacher to learn from: set `teacher` in the model')
        if not chosen or not set(chosen) <= set(names):
            raise ValueError(f'teacher must be one of {", ".join(names)}, got {self.teacher!r}')
        if len(chosen) > 1 and not self.takes_several:
            raise ValueError(
                f'teacher must be one name, got {", ".join(chosen)}: {type(self).__name__} compares with one teacher; write '
                'one objective for each, or make one of them by kddense.EnsembleTeacher'
            )
        return tuple(chosen)

    def attach(self, student: ModelView, teachers: Mapping[str, ModelView]) -> None:
        """Bind to the two sides, and initialise what was built (called by the distiller, once).

        Args:
            student: The student's view.
            teachers: Views by name, of those that :meth:`choose_teachers` chose.
        """
        self.taught_by = tuple(teachers)
        one = next(iter(teachers.values()), None)
        self.bind(student, teachers if self.takes_several else one)  # type: ignore[arg-type]
        for part in _with_initialiser(self):
            part.init_weights()

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        """Check that the two models can be compared, and build what stands between them. Called once, at build.

        Args:
            student: The student's view.
            teacher: The teacher's; of an objective that takes several a dict by name, of one that asks none ``None``.

        Raises:
            ValueError: If they cannot; the message says why and what to do.
        """
        Taps(student.model, self.student_taps, student.owner)
        for measures in self.measuring:
            Taps(student.model, [measures.on], student.owner)
            if self.trains_alone:
                raise ValueError(
                    "weight is measured by the task's gradient, which is 0 while alone=True: give a number"
                )
        for kind in sorted(self.kinds | self.student_kinds):
            student.check(kind)
        for view in teacher.values() if isinstance(teacher, Mapping) else filter(None, [teacher]):
            self._check_teacher(student, view)

    def _check_teacher(self, student: ModelView, teacher: ModelView) -> None:
        places = {place for place, _ in map(split_gradient, self.gradient_taps)}
        Taps(teacher.model, self.teacher_taps | places, teacher.owner)
        for kind in teacher.kinds_behind(self.teacher_taps):
            student.check(kind)
        for kind in sorted(self.kinds):
            teacher.check_teacher(kind)
            _check_known(teacher, kind)
            differences = teacher.differences_from(student, kind)
            if differences:
                of_classes = any('num_classes' in one for one in differences)
                choose = (
                    f"choose and order the teacher's classes with {teacher.owner}.class_map, " if of_classes else ''
                )
                raise ViewError(
                    f'student and teacher do not speak about the same boxes: {"; ".join(differences)}. Give both configs '
                    f'the same values (and train the teacher with them), {choose}or leave this objective out'
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
        """Return where it looks, for pictures of what it compares."""
        return Shown()

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        """Return scalar losses by name, not yet multiplied with :attr:`schedule`.

        Args:
            seen: What the student showed, with gradients; ``seen.batch`` is what it was given, ``seen.losses`` its own.
            taught: What the teacher showed, without gradients; with :attr:`takes_several` a dict by the teachers' names, and
                empty for an objective that asks no teacher.
        """
        raise NotImplementedError


def _check_known(teacher: ModelView, kind: str) -> None:
    if teacher.known_classes is not None and kind not in ('roi', 'dense'):
        raise ViewError(
            f'{teacher.owner}.class_map leaves out classes of the student, which {teacher.owner} takes for background, and '
            f"only in RoI and dense heads can the two be told apart, not in '{kind}': leave this objective out"
        )


def _with_initialiser(module: nn.Module) -> Iterator[Any]:
    """Yield the outermost parts of a module that initialise themselves, as OpenMMLab's do by their ``init_cfg``."""
    for child in module.children():
        if hasattr(child, 'init_weights'):
            yield child
        else:
            yield from _with_initialiser(child)


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


def share_of_process(number: float | Tensor, like: Tensor) -> Tensor:
    """Return a number of this step over its mean over all processes, or over 1 where that is less.

    A mean over so many that is multiplied by it is one over all processes: their gradients average to those of one.

    Args:
        number: The number here, such as a count of samples.
        like: On whose device to return it.
    """
    return number / mean_over_processes(number, like).clamp(min=1)

"""One step: who is asked what, and when, and what becomes of the answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kddense.errors import within
from kddense.exchange import Answer, Batch, Question
from kddense.objectives import Objective
from kddense.objectives.shares import TaskGradient, gradients_by, square_of, sum_of
from kddense.teachers import Teacher
from kddense.views import ModelView, twice_differentiable

from .images import asked_about, compared_by, known_to, part_of

WEIGHT = 'weight'  # in the log, of an objective whose weight is a percentage
STOPPED = 'stopped'  # and of one that ends when it no longer helps


@dataclass(frozen=True)
class Plan:
    """The plan of one step.

    Attributes:
        objectives: All objectives by name.
        teachers: All teachers by name.
        weights: The weight of each objective in this step; one of 0 is not active.
        taps: Places in the student to listen to.
        kinds: Kinds of knowledge that the student must show.
        early: Questions to teachers that need none of the student's samples: they answer first, so that their maps are gone
            before the student's exist.
        late: Questions to teachers that judge the student's own anchors, RoIs, queries.
        differentiates: Whether the gradients of the student's own losses are to be differentiated again.
        iteration: Counted from 0; 0 outside a run.
    """

    objectives: Mapping[str, Objective]
    teachers: Mapping[str, Teacher]
    weights: Mapping[str, float]
    taps: frozenset[str]
    kinds: frozenset[str]
    early: Mapping[str, Question]
    late: Mapping[str, Question]
    differentiates: bool = False
    iteration: int = 0

    def ask_early(self, batch: Batch) -> dict[str, Answer]:
        """Ask the teachers that need nothing of the student."""
        images = {name: asked_about(self.teachers[name], batch) for name in self.early}
        asked = {name: question for name, question in self.early.items() if images[name]}
        return {name: self.teachers[name].answer(question, batch.of(images[name])) for name, question in asked.items()}

    def all_taps(self, view: ModelView) -> frozenset[str]:
        """Return all places in the student that are listened to."""
        return self.taps.union(*(view.taps_of(kind) for kind in self.kinds))

    def learn(self, view: ModelView, student: Any, batch: Batch) -> Answer:
        """Run the student's own loss, and return what it showed.

        Raises:
            ValueError: If an objective, active now or later, compares what the student cannot show of these images.
        """
        for name, objective in self.objectives.items():
            with within(f'objectives.{name}'):
                view.check_images(batch.data_samples, objective.kinds | objective.student_kinds)
        if not self.differentiates:
            return view.learn(student, batch, self.taps, self.kinds)
        with twice_differentiable(view.model):
            images = batch.inputs.detach().requires_grad_()
            return view.learn(student, replace(batch, inputs=images), self.taps, self.kinds)

    def ask_late(self, batch: Batch, seen: Answer) -> dict[str, Answer]:
        """Ask the teachers that judge what the student sampled."""
        answers = {}
        for name, question in self.late.items():
            teacher = self.teachers[name]
            images = asked_about(teacher, batch)
            if images:
                kinds = _sampled_for(teacher, question)
                shown = part_of(seen, images, len(batch.inputs), kinds, classes=teacher.view.known_classes)
                samples = {kind: shown.samples[kind] for kind in kinds}
                answers[name] = teacher.answer(replace(question, samples=samples), batch.of(images))
        return answers

    def compare(self, seen: Answer, taught: Mapping[str, Answer], task: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the losses of all objectives, weighted, by their names in the log.

        Args:
            seen: What the student showed.
            taught: What the teachers answered, by name.
            task: The student's own losses as they count in this step.
        """
        own = TaskGradient(task, seen.taps)
        losses = {}
        for name, objective in self.objectives.items():
            for key, value in self._losses_of(name, objective, seen, taught, own).items():
                losses[f'distill.{name}.{key}'] = value
        return losses

    def _losses_of(
        self, name: str, objective: Objective, seen: Answer, taught: Mapping[str, Answer], task: TaskGradient
    ) -> dict[str, Tensor]:
        weight: float | Tensor = self.weights[name]
        assert seen.batch is not None
        images, share = compared_by(objective, self.teachers, seen.batch) if weight else ([], 0.0)
        if not images:
            return _idle(objective, seen.batch.inputs)
        try:
            found = self._compared(objective, seen, taught, images)
        except ValueError as error:
            raise ValueError(f'objectives.{name}: {error}') from error
        if share < 1:
            found = {key: share * value if 'loss' in key else value for key, value in found.items()}
        measured = self._measured(name, objective, found, task)
        weight = measured.get(WEIGHT, weight)
        return {key: _weighted(key, value, objective, weight) for key, value in found.items()} | measured

    def _compared(
        self, objective: Objective, seen: Answer, taught: Mapping[str, Answer], images: list[int]
    ) -> dict[str, Tensor]:
        """Return the losses of an objective on some images."""
        assert seen.batch is not None
        kinds = objective.kinds | objective.student_kinds
        known = known_to(objective, self.teachers)
        ours = part_of(seen, images, len(seen.batch.inputs), kinds, objective.student_taps, known)
        theirs = {}
        for name in objective.taught_by:
            asked = asked_about(self.teachers[name], seen.batch)
            places = [asked.index(image) for image in images]
            answer = taught.get(name, Answer())
            theirs[name] = part_of(answer, places, len(asked), kinds, objective.teacher_taps)
        return objective(ours, theirs if objective.takes_several else next(iter(theirs.values()), Answer()))

    def _measured(
        self, name: str, objective: Objective, found: Mapping[str, Tensor], task: TaskGradient
    ) -> dict[str, Tensor]:
        """Return what is logged of a weight that sets itself, measured if that is due."""
        own: dict[str, list[Tensor | None]] = {}
        for one in objective.measuring:
            if one.is_due(self.iteration) and one.on not in own:
                total = sum_of(found, but=lambda key: key in objective.own_losses)
                own[one.on] = gradients_by(total, task.features(one.on))
                one.tell_if_unreached(name, total, own[one.on])
        logged = {}
        if objective.share is not None:
            if objective.share.on in own and objective.share.is_due(self.iteration):
                place = objective.share.on
                objective.share.set(square_of(own[place]), square_of(task.by(place)))
            logged[WEIGHT] = objective.share.ratio * self.weights[name]
        if objective.stop is not None:
            if objective.stop.is_due(self.iteration):
                objective.stop.note(own[objective.stop.on], task.by(objective.stop.on))
            logged[STOPPED] = torch.zeros_like(objective.stop.times, dtype=torch.float32)
        return logged

    def scale_task(self, losses: Mapping[str, Any], task_weights: Mapping[str, float]) -> dict[str, Any]:
        """Apply ``task_weights``, and what the objectives say of the student's own losses (Chen's μ).

        An objective at half its weight moves the student's loss half the way. One that trains alone leaves nothing of them.

        Raises:
            ValueError: If there is no such loss.
        """
        names = [name for name in losses if 'loss' in name]
        factors: dict[str, float] = {}
        for pattern, factor in task_weights.items():
            matching = [name for name in names if name == pattern or re.fullmatch(pattern, name)]
            if not matching:
                raise ValueError(f"task_weights: the student has no loss '{pattern}', only {sorted(names)}")
            for key in matching:
                factors[key] = factors.get(key, 1.0) * factor
        for name, weight in self.weights.items():
            for pattern, scale in self.objectives[name].task_scales().items() if weight > 0 else ():
                full = self.objectives[name].schedule.value if self.objectives[name].share else 1.0
                moved = 1 - min(weight / full, 1.0) * (1 - scale)
                for key in filter(re.compile(pattern).fullmatch, names):
                    factors[key] = factors.get(key, 1.0) * moved
        if any(self.weights[name] > 0 and one.trains_alone for name, one in self.objectives.items()):
            factors.update(dict.fromkeys(names, 0.0))
        return {key: _times(value, factors.get(key, 1.0)) for key, value in losses.items()}


def make_plan(
    objectives: Mapping[str, Objective],
    teachers: Mapping[str, Teacher],
    iteration: int | None,
    end: int | None,
    counting: frozenset[str] | None = None,
) -> Plan:
    """Plan a step.

    Args:
        objectives: All objectives by name.
        teachers: All teachers by name.
        iteration: The iteration, counted from 0; ``None`` outside a run.
        end: How many the whole training has, if that is known.
        counting: The objectives that count in this stage; ``None`` for all.
    """
    weights = {
        name: objective.schedule(iteration or 0, end) if _counts(name, objective, counting) else 0.0
        for name, objective in objectives.items()
    }
    active = [objective for name, objective in objectives.items() if weights[name] > 0]
    questions = {
        name: question
        for name in teachers
        if (question := _question([objective for objective in active if name in objective.taught_by])) != Question()
    }
    sampled = {name: _sampled_for(teachers[name], question) for name, question in questions.items()}
    return Plan(
        objectives,
        teachers,
        weights,
        taps=_union(objective.student_taps for objective in active)
        | {one.on for objective in active for one in objective.measuring},
        kinds=_union(objective.kinds | objective.student_kinds for objective in active) | _union(sampled.values()),
        early={name: question for name, question in questions.items() if not sampled[name]},
        late={name: question for name, question in questions.items() if sampled[name]},
        differentiates=any(objective.differentiates_losses for objective in active),
        iteration=iteration or 0,
    )


def _counts(name: str, objective: Objective, counting: frozenset[str] | None) -> bool:
    if objective.stop is not None and objective.stop.has_stopped():
        return False
    return counting is None or name in counting


def _question(asking: list[Objective]) -> Question:
    return Question(
        taps=_union(objective.teacher_taps for objective in asking),
        opinions=_union(objective.kinds for objective in asking),
        gradients=_union(objective.gradient_taps for objective in asking),
    )


def _sampled_for(teacher: Teacher, question: Question) -> frozenset[str]:
    """Return the kinds of samples that a teacher has to be given with a question."""
    return (question.opinions & teacher.view.sampled_kinds) | teacher.view.kinds_behind(question.taps)


def _weighted(key: str, value: Tensor, objective: Objective, weight: float | Tensor) -> Tensor:
    return value if 'loss' not in key or key in objective.own_losses else weight * value


def _idle(objective: Objective, like: Tensor) -> dict[str, Tensor]:
    """Return zeros under the names of an objective's losses; the first reaches every parameter, so that DDP sees them."""
    first, *others = objective.loss_names
    zeros = {name: like.new_zeros(()) for name in [*others, *([WEIGHT] if objective.share else [])]}
    stopped = {STOPPED: like.new_full((), float(objective.stop.has_stopped()))} if objective.stop else {}
    return {first: _touch(objective, like)} | zeros | stopped


def _touch(objective: nn.Module, like: Tensor) -> Tensor:
    return sum((parameter.sum() * 0 for parameter in objective.parameters()), like.new_zeros(()))


def _times(value: Any, factor: float) -> Any:
    if factor == 1:
        return value
    return [item * factor for item in value] if isinstance(value, (list, tuple)) else value * factor


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)

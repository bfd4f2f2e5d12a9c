"""What two models let recipes compare: what is changed to fit them, what stands beside a recipe, what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config

from kddense.registry import MODELS
from kddense.views import build_view

from .choice import DETR, MASK_QUERIES, TWO_STAGE
from .models import Looked
from .writing import read_recipe

BESIDE = ('masks', 'stuff')  # of a recipe for boxes, where two-stage detectors draw masks, or have a semantic head
ASKS_MORE = {TWO_STAGE: BESIDE, DETR: ('kd_detr',)}  # of two models than that they are of one family
# Parts of DETRDistill that need more in common than its matching, which is the objective of the recipe's name.
OPTIONAL = ('target_aware', 'query_prior')


@dataclass
class Fit:
    """What lets a recipe fit two models.

    Attributes:
        changes: To its objectives, by their names; those that it has not are added.
        beside: Recipes whose objectives are among them.
        left_out: What is not compared, with the reason.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    beside: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def obstacle(objective: Mapping[str, Any], student: Looked, teacher: Looked) -> str | None:
    """Return why an objective cannot compare two models, in a sentence; ``None`` if it can.

    Args:
        objective: Its config.
        student: The student.
        teacher: The teacher.
    """
    views = (
        build_view(student.model, 'student'),
        build_view(teacher.model, 'teacher', class_map=teacher.class_map),
    )
    try:
        MODELS.build(dict(objective)).bind(*views)
    except ValueError as error:
        return str(error)
    return None


def obstacles(student: Looked, teacher: Looked) -> dict[str, str]:
    """Return the recipes for two models of one family that these two cannot follow, with the reasons."""
    if student.family != teacher.family:
        return {}
    found = {}
    for recipe in ASKS_MORE.get(student.family or '', ()):
        reasons = [obstacle(one, student, teacher) for one in read_recipe(recipe).objectives.values()]
        if any(reasons):
            found[recipe] = next(filter(None, reasons))
    return found


def fit(recipe: str, student: Looked, teacher: Looked) -> Fit:
    """Return what lets a recipe fit two models, as far as anything does."""
    objectives = read_recipe(recipe).objectives
    found = Fit(levels_that_fit(objectives, student))
    if student.family not in (DETR, MASK_QUERIES):
        return found
    for name, objective in objectives.items():
        reason = obstacle(objective, student, teacher)
        if reason and "set layers='last'" in reason:
            found.changes[name] = dict(layers='last')
            reason = obstacle({**objective, 'layers': 'last'}, student, teacher)
        if reason and name in OPTIONAL:
            found.changes[name] = dict(weight=0)
            found.left_out[name] = reason
    return found


def stand_beside(found: Fit, student: Looked, lacking: Mapping[str, str]) -> None:
    """Add to what fits the recipes for masks and for stuff, where both models of a pair of two-stage detectors have them.

    Args:
        found: What lets the recipe for boxes fit.
        student: The student.
        lacking: What :func:`obstacles` returned for the two.
    """
    if student.family != TWO_STAGE:
        return
    for recipe in BESIDE:
        objectives = read_recipe(recipe).objectives.to_dict()
        if recipe not in lacking:
            found.beside.append(recipe)
            found.changes.update(objectives)
        elif not any(obstacle(one, student, student) for one in objectives.values()):
            found.left_out[recipe] = lacking[recipe]


def levels_that_fit(objectives: Config, student: Looked) -> dict[str, Any]:
    """Return changes to objectives that compare more levels of the pyramid than there are; each level weighs as it did."""
    head = getattr(student.model, 'bbox_head', None) or getattr(student.model, 'rpn_head', None)
    count = getattr(getattr(head, 'prior_generator', None), 'num_levels', None)
    changes = {}
    for name, objective in objectives.items():
        levels = objective.get('levels')
        if objective.get('tap') == 'neck' and levels and count and max(levels) >= count:
            changes[name] = dict(levels=list(range(count)), weight=objective.get('weight', 1.0) * count / len(levels))
    return changes

"""Which images of a batch an objective compares: those of its teacher's data sets, and of ground truth the labelled ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmengine import dist

from kddense.exchange import Answer, Batch
from kddense.objectives import Objective
from kddense.teachers import Teacher
from kddense.views import is_unlabelled


def asked_about(teacher: Teacher, batch: Batch) -> list[int]:
    """Return about which images of a batch a teacher is asked, by their places.

    In one of several processes there is always one, which may count 0: objectives add up numbers of all processes.
    """
    return teacher.own_images(batch) or ([0] if dist.get_world_size() > 1 else [])


def compared_by(objective: Objective, teachers: Mapping[str, Teacher], batch: Batch) -> tuple[list[int], float]:
    """Return which images of a batch an objective compares, and how much its losses count.

    Args:
        objective: The objective.
        teachers: All teachers by name.
        batch: What the student was given.

    Returns:
        Their places, of those that its teachers are asked about; and their share in all images that it could compare, so
        that terms of several teachers, each with images of its own, add up to a mean over all.
    """
    able = list(range(len(batch.inputs)))
    if objective.of_labelled:
        able = [place for place in able if not is_unlabelled(batch.data_samples[place])]
    own = [set(teachers[name].own_images(batch)) for name in objective.taught_by]
    compared = [place for place in able if all(place in images for images in own)]
    if compared:
        return compared, len(compared) / len(able)
    asked = [asked_about(teachers[name], batch) for name in objective.taught_by] or [list(range(len(batch.inputs)))]
    return (asked[0][:1] if dist.get_world_size() > 1 else []), 0.0


def part_of(
    answer: Answer,
    images: Sequence[int],
    among: int,
    kinds: Iterable[str],
    taps: Iterable[str] = (),
    classes: Sequence[int] | None = None,
) -> Answer:
    """Return what an answer says of some images and classes; of all of them, the answer itself.

    Args:
        answer: Of the student or of a teacher.
        images: Which images, by their places among those that it is about.
        among: How many it is about.
        kinds: The samples and opinions that are looked at.
        taps: The taps that are.
        classes: Which classes of the student, ``None`` for all.
    """
    if classes is None and list(images) == list(range(among)):
        return answer
    chosen = replace(
        answer,
        taps={tap: answer.taps[tap] for tap in taps},
        samples={kind: answer.samples[kind] for kind in kinds if kind in answer.samples},
        opinions={kind: answer.opinions[kind] for kind in kinds if kind in answer.opinions},
    )
    return chosen.of(images, among).over(classes)


def known_to(objective: Objective, teachers: Mapping[str, Teacher]) -> Any:
    """Return which classes of the student the teacher of an objective knows; ``None`` for all."""
    known = [teachers[name].view.known_classes for name in objective.taught_by]
    return known[0] if known else None

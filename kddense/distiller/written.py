"""What may be written in the config of a distiller besides objectives by name: recipes, and mistakes that have a name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

from kddense.configs import read_recipe, recipe_names
from kddense.errors import within

SET_BY_LIBRARIES = (('pretrained', None), ('train_cfg', None))  # mmseg's init_model, of whatever it builds


def check_keys(student: Mapping[str, Any], others: Mapping[str, Any], known: Sequence[str]) -> None:
    """Check what stands in the config of a distiller and is none of its arguments.

    Args:
        student: The config of the student.
        others: What is no argument.
        known: The arguments that there are.

    Raises:
        ValueError: If there is anything.
    """
    others = {key: value for key, value in others.items() if (key, value) not in SET_BY_LIBRARIES}
    inherited = [key for key in others if key in student]
    if inherited:
        raise ValueError(
            f"model: {', '.join(inherited)} of the student stand beside type='kddense.Distiller': the base config is still "
            'there, write model = dict(_delete_=True, …), or model = dict(student=_base_.model, …, **_base_.distiller)'
        )
    for key in others:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f'; did you mean {close[0]!r}?' if close else f', only {", ".join(known)}'
        raise ValueError(f'model: a kddense.Distiller has no {key!r}{hint}')


def objectives_of(written: Any) -> Mapping[str, Any]:
    """Return objectives by name, as a config writes them.

    Args:
        written: Objectives by name; or the name of a recipe; or a list of recipes' names and of dicts by name, each of which
            is laid over what stands before it, as mmengine lays a config over its base.

    Raises:
        ValueError: If there is no such recipe, or two of them have an objective of the same name.
    """
    if isinstance(written, str) or (isinstance(written, Sequence) and written):
        return _laid_together([written] if isinstance(written, str) else written)
    if not isinstance(written or {}, Mapping):
        raise ValueError(
            f'objectives must be a dict of configs by name, or recipes: {", ".join(recipe_names())}; got a '
            f'{type(written).__name__}'
        )
    return written or {}


def _laid_together(parts: Sequence[Any]) -> Mapping[str, Any]:
    found = Config(dict(objectives={}))
    recipes: dict[str, str] = {}
    for place, part in enumerate(parts):
        if isinstance(part, str):
            part = _objectives_of_recipe(part, recipes)
        if not isinstance(part, Mapping) or isinstance(part.get('type'), str):
            raise ValueError(
                f'objectives[{place}] must be the name of a recipe or a dict of configs by name, got {part!r}'
            )
        found.merge_from_dict(dict(objectives=dict(part)))
    return found.objectives


def _objectives_of_recipe(recipe: str, recipes: dict[str, str]) -> Mapping[str, Any]:
    """Return the objectives of a recipe, and note in ``recipes`` which recipe each name is of."""
    with within('objectives'):
        objectives = read_recipe(recipe).objectives
    for name in objectives:
        if name in recipes:
            raise ValueError(
                f'objectives: the recipes {recipes[name]!r} and {recipe!r} both have an objective {name!r}: write one of '
                f'the two under a name of its own, {name}_2=dict(type={objectives[name].type!r}, …), in place of its recipe'
            )
        recipes[name] = recipe
    return objectives

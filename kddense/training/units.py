"""Which parts of a model are gathered one at a time, where each process keeps a share of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import nn

from kddense.distiller import Distiller
from kddense.errors import ConfigError
from kddense.options import check_pattern
from kddense.taps import nearest
from kddense.teachers import ModelTeacher

from .strategies import WHERE

BACKBONE, NECK = 'backbone', 'neck'  # a model calls these as modules, so that their weights can be gathered just then


def units_of(student: nn.Module, units: str | Sequence[str]) -> list[nn.Module]:
    """Return the parts of a student that are gathered one at a time, inner ones first.

    Args:
        student: The student.
        units: See :class:`kddense.FSDPStrategy`.

    Raises:
        ConfigError: If a pattern matches nothing, or a part that is not called as a module.
    """
    if units == 'none':
        return []
    return blocks_of(student) if isinstance(units, str) else _chosen(student, units)


def blocks_of(model: Any) -> list[nn.Module]:
    """Return the parts of a model's backbone that have weights, and its neck."""
    backbone = getattr(model, BACKBONE, None)
    parts = list(_called(backbone.children())) if isinstance(backbone, nn.Module) else []
    neck = getattr(model, NECK, None)
    return [part for part in [*parts, neck] if isinstance(part, nn.Module) and any(True for _ in part.parameters())]


def _called(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Yield modules that are called; lists and dicts of modules are not."""
    for module in modules:
        if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            yield from _called(module.children())
        else:
            yield module


def _chosen(student: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Return the parts whose paths match, inner ones before those around them.

    Raises:
        ConfigError: If a pattern matches nothing, or a part that is not called as a module.
    """
    modules = {path: module for path, module in student.named_modules() if path}
    found: dict[str, nn.Module] = {}
    for pattern in patterns:
        check_pattern(pattern, f'{WHERE}.units')
        own = {path: module for path, module in modules.items() if re.fullmatch(pattern, path)}
        if not own:
            raise ConfigError(
                f": there is no part '{pattern}' in the student{nearest(pattern, modules)}", f'{WHERE}.units'
            )
        for path, module in own.items():
            if isinstance(module, (nn.ModuleList, nn.ModuleDict)) or callable(getattr(module, 'loss', None)):
                raise ConfigError(
                    f": '{path}' ({type(module).__name__}) is not called as a module, so its weights would be missing: "
                    'choose parts of the backbone and the neck',
                    f'{WHERE}.units',
                )
        found |= own
    return [found[path] for path in sorted(found, key=lambda path: -path.count('.'))]


def check_sharding(distiller: Distiller, units: Sequence[nn.Module], shards_teacher: bool) -> None:
    """Refuse what needs gradients of weights that are gone by then, and teachers that cannot be sharded.

    Args:
        distiller: The distiller.
        units: The parts of its student that are gathered one at a time.
        shards_teacher: Whether its teachers are sharded too.

    Raises:
        ConfigError: If something cannot be done.
    """
    if shards_teacher and distiller.side_stream.is_on:
        raise ConfigError(
            ': the gathering of weights keeps to the stream of the student: remove one of this and model.side_stream',
            f'{WHERE}.shard_teacher',
        )
    for name, objective in distiller.named_objectives.items():
        if units and (objective.differentiates_losses or objective.measuring):
            raise ConfigError(
                f": objectives.{name} takes gradients in the middle of the step: with 'none' the whole student is there "
                'for all of it',
                f'{WHERE}.units',
            )
        if shards_teacher and objective.gradient_taps:
            raise ConfigError(
                f': objectives.{name} asks for gradients of the teacher: remove it, each process then holds it whole',
                f'{WHERE}.shard_teacher',
            )
    for name, teacher in distiller.teachers.items() if shards_teacher else ():
        if not isinstance(teacher, ModelTeacher) or not blocks_of(teacher.model):
            raise ConfigError(
                f': the teacher {name} ({type(teacher).__name__}) is no model with a backbone of its own to shard: '
                'remove it, each process then holds it whole',
                f'{WHERE}.shard_teacher',
            )

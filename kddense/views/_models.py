"""Telling models of other libraries apart, by the names of their classes: the libraries need not be installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from kddense.registry import VIEWS

# Backbones that give their head more maps in training: they and their head must agree.
TALKATIVE_BACKBONES = ('DDRNet', 'PIDNet')


def is_a(value: Any, name: str) -> bool:
    """Tell whether a value is of a class, or of one derived from it, by the name of the class."""
    return any(base.__name__ == name for base in type(value).__mro__)


def owner_of(value: Any, method: str) -> str | None:
    """Return the name of the class that a value has a method from."""
    return next((base.__name__ for base in type(value).__mro__ if method in vars(base)), None)


def is_unlabelled(sample: Any) -> bool:
    """Tell whether a data sample is of an image that has no labels."""
    return bool(sample.metainfo.get('unlabelled', False))


def speakers(model: nn.Module) -> list[nn.Module]:
    """Return the modules whose own ``training`` flag decides which quantity they return: heads."""
    names = (type(module).__name__ for module in model.modules())
    pairs = zip(model.modules(), names, strict=True)
    return [module for module, name in pairs if name.endswith('Head') or name in TALKATIVE_BACKBONES]


def explain(kind: str) -> str:
    """Return what messages call a kind of knowledge."""
    known = (view.explains for view in VIEWS.module_dict.values())
    return next((explains[kind] for explains in known if kind in explains), f"knowledge of the kind '{kind}'")


def divided(class_map: Sequence[int | None] | None) -> tuple[list[int] | None, tuple[int, ...] | None]:
    """Divide a map of classes with gaps.

    Args:
        class_map: For every class of the student a teacher's, ``None`` where it has none; ``None`` without a map.

    Returns:
        The teacher's classes, and which of the student's they are; ``None`` instead of all of them.
    """
    if class_map is None:
        return None, None
    known = tuple(place for place, one in enumerate(class_map) if one is not None)
    return [one for one in class_map if one is not None], known if len(known) < len(class_map) else None

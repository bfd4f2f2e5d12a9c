"""The two models of a distillation: what their configs hold, which families they are of, and whether they can be used so."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from kddense.apps.needed import check_packages
from kddense.configs import classes_of, is_distiller, plain_model, read_config
from kddense.random_state import forked_random_state
from kddense.registry import MODELS
from kddense.report.contents import first_line
from kddense.report.evaluation import load_model, scope_of
from kddense.teachers.one_model import class_indices
from kddense.training.quantised import drop_quantising
from kddense.views import (
    DenseHeadView,
    DepthView,
    DETRView,
    MaskFormerView,
    MaskSegmentorView,
    SegmentorView,
    TwoStageView,
    build_view,
)

from .choice import DEPTH, DETR, GFL, MASK_QUERIES, ONE_STAGE, SEGMENTOR, TWO_STAGE


@dataclass
class Looked:
    """A model that was looked at.

    Attributes:
        config: Its whole config.
        model: The model, of a teacher with its weights.
        family: One of :data:`kddense.apps.distill.choice.FAMILIES`, ``None`` if it is none of them.
        class_map: Of a teacher, which of its classes are the student's; all by default.
    """

    config: Config
    model: nn.Module
    family: str | None
    class_map: Sequence[int | None] | None = None

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of its classes, if its config says."""
        return classes_of(self.config)


def look_at_student(source: str, options: Mapping[str, Any]) -> Looked:
    """Read a student's config, check that a training can be made of it, and build its model with random weights.

    Args:
        source: A path, or ``'package::path'``.
        options: Changes to it, by key.

    Raises:
        ValueError: If it is no plain training config.
        OSError: If there is no such file.
    """
    config = _whole(read_config(source, 'student'), 'student')
    config.merge_from_dict(dict(options))
    check_packages(config)
    if is_distiller(config.model):
        raise ValueError(f'{source} distils already: {_instead(source)}')
    for part in ('train_dataloader', 'train_cfg'):
        if not config.get(part):
            raise ValueError(f'{source} has no {part}: the student must be a config that could be trained by itself')
    if not (config.get('optim_wrapper') or {}).get('optimizer'):
        raise ValueError(f'{source} has no optim_wrapper with an optimizer: the student must say how it learns')
    absent = [part for part in ('val_dataloader', 'val_evaluator', 'val_cfg') if not config.get(part)]
    if absent:
        raise ValueError(
            f'{source} has no {", ".join(absent)}: without validation data nothing tells whether the teacher is good, or '
            'what was gained'
        )
    with _said_of(f'the model of {source}'), scope_of(config), forked_random_state():
        model = MODELS.build(copy.deepcopy(plain_model(config)))
        return Looked(config, model, family_of(model))


def look_at_teacher(
    source: str, checkpoint: str, trust_checkpoint: bool, class_map: Sequence[str | int | None] | None = None
) -> Looked:
    """Read a teacher's config, and build its model with its weights.

    Args:
        source: A path, or ``'package::path'``.
        checkpoint: A path or a URL.
        trust_checkpoint: See :class:`kddense.FrozenTeacher`.
        class_map: Likewise.

    Raises:
        ValueError: If the weights are of another model, or ``class_map`` names none of its classes.
        OSError: If there are no such files.
    """
    config = _whole(read_config(source, 'teacher'), 'teacher')
    config.model = plain_model(config)
    if 'default_scope' not in config and '::' in source:
        config.default_scope = source.partition('::')[0]
    if '://' not in checkpoint and not Path(checkpoint).is_file():
        raise FileNotFoundError(f"teacher.checkpoint: there is no file '{checkpoint}'")
    drop_quantising(config)  # as a teacher computes
    with _said_of(f'the model of {source}'):
        model = load_model(config, checkpoint, trust_checkpoint, 'teacher')
        chosen = None if class_map is None else class_indices(class_map, classes_of(config), 'teacher')
        return Looked(config, model, family_of(model), chosen)


def family_of(model: nn.Module) -> str | None:
    """Return the family of a model, as its view tells; ``None`` if none of those that recipes are known for."""
    view = build_view(model, owner='student')
    if isinstance(view, DenseHeadView):
        return GFL if view.reg_max is not None else ONE_STAGE
    families = {
        TwoStageView: TWO_STAGE,
        DETRView: DETR,
        MaskFormerView: MASK_QUERIES,
        MaskSegmentorView: MASK_QUERIES,
        DepthView: DEPTH,
        SegmentorView: SEGMENTOR,
    }  # the two before it are segmentors too
    return next((family for kind, family in families.items() if isinstance(view, kind)), None)


def are_strangers(student: Looked, teacher: Looked) -> bool:
    """Tell whether their backbones are of different kinds: neither class is the other's, or made from it."""
    own, other = (type(getattr(one.model, 'backbone', None)) for one in (student, teacher))
    return not (issubclass(own, other) or issubclass(other, own))


def swapped(student: Looked, teacher: Looked) -> str | None:
    """Return a warning if the teacher is the smaller of the two."""
    if teacher.parameters >= student.parameters:
        return None
    sizes = (f'{one.parameters / 1e6:.2f} M' for one in (teacher, student))
    return 'the teacher has {} parameters, the student {}: are they swapped?'.format(*sizes)


@contextmanager
def _said_of(what: str) -> Iterator[None]:
    """Context manager: an error of another library becomes one sentence, which begins with what could not be built."""
    try:
        yield
    except (ValueError, OSError, ImportError):
        raise  # they say it themselves
    except Exception as error:  # models of any library may fail in any way
        reason = first_line(error).partition('. Please check')[0]
        raise ValueError(f'{what} cannot be built: {reason}') from error


def _whole(config: Any, name: str) -> Config:
    if not config.get('model') or 'type' not in config['model']:
        raise ValueError(f'{name}.config holds no model: it needs a `model` dict with a `type`')
    return copy.deepcopy(config) if isinstance(config, Config) else Config(copy.deepcopy(dict(config)))


def _instead(source: str) -> str:
    """Say which config to give in place of one that distils: its base, if that is a plain one."""
    bases = Config._get_base_files(source) if Path(source).is_file() else []
    for base in bases if isinstance(bases, list) else [bases]:
        path = Path(base) if '::' in base else Path(source).parent / base
        if '/recipes/' not in str(base):
            return f'give its plain student, {base if "::" in base else path}'
    return 'give the config of its plain student, which `kddense export` writes'

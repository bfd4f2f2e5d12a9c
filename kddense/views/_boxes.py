"""What views of detectors share: in which fields two heads differ, and how RoI heads decide."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from ._models import is_a

HARMLESS = {'clip_border', 'add_ctr_clamp', 'ctr_clamp', 'use_box_type'}  # settings of coders that no target depends on


def as_tensor(boxes: Any) -> Tensor:
    """Return boxes as a plain tensor, which mmdet may hold in a class of its own."""
    return boxes if isinstance(boxes, Tensor) else boxes.tensor


def prior_differences(key: str, ours: Any, theirs: Any) -> list[str]:
    """List the fields in which two generators of anchors or points differ; ``key`` is where they stand in a config."""
    if ours.strides == theirs.strides and _base_priors(ours) == _base_priors(theirs):
        return []
    names = ('strides', 'scales', 'ratios', 'center_offset', 'offset')
    fields = [(name, *(_plain(getattr(generator, name, None)) for generator in (ours, theirs))) for name in names]
    by_name = differing((f'{key}.{name}', own, other) for name, own, other in fields)
    return by_name or differing([(f'{key} (its base anchors)', _base_priors(ours), _base_priors(theirs))])


def coder_of(coder: Any) -> str:
    """Return a box coder's name and settings."""
    settings = {key: value for key, value in sorted(vars(coder).items()) if key not in HARMLESS}
    return f'{type(coder).__name__}({", ".join(f"{key}={value}" for key, value in settings.items())})'


def differing(fields: Iterable[tuple[str, Any, Any]]) -> list[str]:
    """Say which fields, each a key with the student's and the teacher's value, differ."""
    return [
        f'{key}: {_short(own)} in the student, {_short(other)} in the teacher'
        for key, own, other in fields
        if own != other
    ]


def _base_priors(generator: Any) -> Any:
    if not hasattr(generator, 'base_anchors'):
        return generator.offset
    return [[[round(edge, 4) for edge in anchor] for anchor in level.tolist()] for level in generator.base_anchors]


def _plain(value: Any) -> Any:
    return [round(number, 4) for number in value.tolist()] if isinstance(value, Tensor) else value


def _short(value: Any, limit: int = 120) -> str:
    text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + '…'


def is_plain_box_head(head: Any) -> bool:
    """Tell whether a RoI head scores its classes and a background, and has one box per class or for all."""
    if (
        not is_a(head, 'BBoxHead')
        or not (getattr(head, 'with_cls', False) and head.with_reg)
        or head.custom_cls_channels
    ):
        return False
    return getattr(head.fc_cls, 'out_features', None) == head.num_classes + 1


def decides_each_class(head: Any) -> bool:
    """Tell whether a plain RoI head learns each class on its own, by a sigmoid."""
    return bool(getattr(head.loss_cls, 'use_sigmoid', False))

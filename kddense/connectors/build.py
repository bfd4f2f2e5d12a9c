"""Building the layers between two models of the shapes that a tiny batch showed: nobody types channel counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kddense.errors import within
from kddense.registry import MODELS


def build_connector(
    cfg: Mapping[str, Any] | None, student_shape: Sequence[int], teacher_shape: Sequence[int]
) -> nn.Module | None:
    """Build the layer between two features of the given shapes.

    Random numbers are drawn from torch's current generator; fork it to leave it untouched.

    Args:
        cfg: None for no layer. A dict without ``type``, or with ``type='kddense.Connector'``, takes what the shapes
            call for: :class:`ConvConnector` between maps, :class:`LinearConnector` between vectors or tokens. Any other
            type is looked up in the registry. All are built with ``in_channels`` and ``out_channels`` added.
        student_shape: The shape of the student's feature: a map ``(N, C, H, W)``, tokens ``(N, L, C)`` or vectors
            ``(N, C)``.
        teacher_shape: The shape of the teacher's, of the same kind.

    Returns:
        The layer, or None.

    Raises:
        ValueError: If the features are not of one of these kinds, or not of the same, or, without a layer, if their
            channels differ; if ``cfg`` gives channel counts.

    Example:
        >>> build_connector(dict(type='kddense.Connector'), (2, 64, 40, 40), (2, 256, 40, 40))
        ConvConnector(
          (conv): Conv2d(64, 256, kernel_size=(1, 1), stride=(1, 1))
          (norm): Identity()
        )
    """
    student_shape, teacher_shape = tuple(student_shape), tuple(teacher_shape)
    shapes = f'the student shows {student_shape}, the teacher {teacher_shape}'
    if len(student_shape) != len(teacher_shape):
        raise ValueError(
            f'features of different rank cannot be connected: {shapes}; tap the two models where both have a map, or '
            'both tokens, or both vectors'
        )
    if len(student_shape) not in (2, 3, 4):
        raise ValueError(f'only maps (N, C, H, W), tokens (N, L, C) and vectors (N, C) can be connected, but {shapes}')
    is_map = len(student_shape) == 4
    channel_dim = 1 if is_map else -1
    in_channels, out_channels = student_shape[channel_dim], teacher_shape[channel_dim]
    if cfg is None:
        if in_channels != out_channels:
            raise ValueError(
                f'the student has {in_channels} channels and the teacher {out_channels}, so they cannot be compared '
                "without a layer between them; set connector=dict(type='kddense.Connector')"
            )
        return None
    layer = dict(cfg)
    for name in ('in_channels', 'out_channels'):
        if name in layer:
            raise ValueError(f'connector finds its channels by itself; remove {name}={layer[name]} from its config')
    if layer.setdefault('type', 'kddense.Connector') in ('kddense.Connector', 'Connector'):
        layer['type'] = 'kddense.ConvConnector' if is_map else 'kddense.LinearConnector'
    with within('connector', layer):
        return MODELS.build({**layer, 'in_channels': in_channels, 'out_channels': out_channels})


def build_fusing_connector(cfg: Mapping[str, Any], sources: Sequence[Tensor], targets: Sequence[Tensor]) -> nn.Module:
    """Build a connector that sees all levels at once, and check what it returns.

    Args:
        cfg: Its config. Its class has ``fuses = True``; it is built with ``in_channels`` and ``out_channels``, lists with
            one number per level, added, and maps a list of features to a list.
        sources: What a tiny batch showed on the side where it stands, one map per level.
        targets: The same on the other side: what it is to return has their channels.

    Returns:
        The layer.

    Raises:
        ValueError: If it returns another number of levels, or other channels.
    """
    channels = [[level.shape[1 if level.dim() == 4 else -1] for level in side] for side in (sources, targets)]
    with within('connector', cfg):
        layer: Any = MODELS.build({**cfg, 'in_channels': channels[0], 'out_channels': channels[1]})
    was_training = layer.training
    returned = [tuple(level.shape) for level in layer.eval()(list(sources))]
    layer.train(was_training)
    if [shape[1] for shape in returned] != channels[1]:
        raise ValueError(
            f"connector '{cfg['type']}' must return {len(channels[1])} levels of {channels[1]} channels, it returns "
            f'{returned}'
        )
    return layer


def fuses(cfg: Any) -> bool:
    """Tell whether a connector's config is of a class that sees all levels at once."""
    kind = cfg.get('type') if isinstance(cfg, Mapping) else None
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    return bool(getattr(found, 'fuses', False))

"""Connectors: adaptation layers that bring a student's feature to the teacher's width and size.

A hint compares features of different networks, and so needs a learned map between them (FitNets' regressor, Chen et
al.'s adaptation layer: a 1x1 convolution between maps, a linear layer between vectors). Nobody types channel counts:
:func:`build_connector` is told the shapes that a tiny batch showed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from kddense.registry import MODELS


@MODELS.register_module()
class ConvConnector(nn.Module):
    """A convolution from the student's channels to the teacher's, for maps ``(N, C, H, W)``.

    There is no activation, because hints are signed: FPN levels and values before a ReLU go below 0, which a ReLU here
    could never follow.

    Args:
        in_channels: The student's channels.
        out_channels: The teacher's channels.
        kernel_size: Odd, so that the map keeps its size. 1 by default.
        norm: A norm layer after the convolution, in mmcv's words, such as ``dict(type='BN')``; none by default. With
            one, the convolution has no bias.

    Raises:
        ValueError: If a channel count is below 1 or ``kernel_size`` is not odd.

    Example:
        >>> import torch
        >>> connector = ConvConnector(8, 16, norm=dict(type='BN'))
        >>> connector(torch.zeros(2, 8, 5, 7)).shape
        torch.Size([2, 16, 5, 7])
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, norm: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        _check_channels(in_channels, out_channels)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd, got {kernel_size}')
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=norm is None)
        self.norm = nn.Identity() if norm is None else _build_norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``."""
        return self.norm(self.conv(x))


@MODELS.register_module()
class LinearConnector(nn.Module):
    """A linear layer from the student's channels to the teacher's, for vectors ``(N, C)`` and tokens ``(N, L, C)``.

    Args:
        in_channels: The student's channels.
        out_channels: The teacher's channels.
        norm: A norm layer after it, in mmcv's words: ``dict(type='LN')`` or ``dict(type='BN')``, which here is the
            one-dimensional kind and takes each token for a sample. None by default. With one, there is no bias.

    Raises:
        ValueError: If a channel count is below 1.

    Example:
        >>> import torch
        >>> connector = LinearConnector(8, 16, norm=dict(type='LN'))
        >>> connector(torch.zeros(4, 8)).shape, connector(torch.zeros(2, 49, 8)).shape
        (torch.Size([4, 16]), torch.Size([2, 49, 16]))
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        _check_channels(in_channels, out_channels)
        if norm is not None and norm.get('type') == 'BN':
            norm = {**norm, 'type': 'BN1d'}
        self.linear = nn.Linear(in_channels, out_channels, bias=norm is None)
        self.norm = nn.Identity() if norm is None else _build_norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_channels)`` to ``(..., out_channels)``."""
        x = self.linear(x)
        rows = x.reshape(-1, x.shape[-1])
        return self.norm(rows).reshape(x.shape)


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
    return MODELS.build({**layer, 'in_channels': in_channels, 'out_channels': out_channels})


def match_size(
    student: Tensor, teacher: Tensor, resize: str = 'student', mode: str = 'bilinear'
) -> tuple[Tensor, Tensor]:
    """Bring two maps to one height and width; vectors, tokens and maps of equal size come back as they are.

    Args:
        student: ``(N, C, H, W)``; gradients flow through the resizing.
        teacher: ``(N, C', H', W')``.
        resize: Which of the two to resize to the other's size, ``'student'`` or ``'teacher'``.
        mode: As :func:`torch.nn.functional.interpolate` (corners not aligned). ``'area'`` averages when shrinking by
            much, where ``'bilinear'`` skips pixels.

    Returns:
        Both tensors.

    Raises:
        ValueError: If ``resize`` or ``mode`` is unknown.

    Example:
        >>> import torch
        >>> student, teacher = match_size(torch.zeros(2, 8, 10, 10), torch.zeros(2, 16, 20, 20))
        >>> student.shape, teacher.shape
        (torch.Size([2, 8, 20, 20]), torch.Size([2, 16, 20, 20]))
    """
    if resize not in ('student', 'teacher'):
        raise ValueError(f"resize must be one of 'student', 'teacher', got {resize!r}")
    if mode not in _RESIZE_MODES:
        raise ValueError(f'mode must be one of {", ".join(map(repr, _RESIZE_MODES))}, got {mode!r}')
    if student.ndim != 4 or teacher.ndim != 4 or student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    align_corners = False if mode in ('bilinear', 'bicubic') else None
    if resize == 'student':
        return F.interpolate(student, teacher.shape[2:], mode=mode, align_corners=align_corners), teacher
    return student, F.interpolate(teacher, student.shape[2:], mode=mode, align_corners=align_corners)


_RESIZE_MODES = ('bilinear', 'bicubic', 'nearest', 'nearest-exact', 'area')


def _check_channels(in_channels: int, out_channels: int) -> None:
    for name, channels in (('in_channels', in_channels), ('out_channels', out_channels)):
        if channels < 1:
            raise ValueError(f'{name} must be at least 1, got {channels}')


def _build_norm(norm: Mapping[str, Any], channels: int) -> nn.Module:
    from mmcv.cnn import build_norm_layer  # here, because connectors without a norm need no mmcv

    return build_norm_layer(dict(norm), channels)[1]

"""Learned layers from one model's channels to the other's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kddense.errors import within
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


def _check_channels(in_channels: int, out_channels: int) -> None:
    for name, channels in (('in_channels', in_channels), ('out_channels', out_channels)):
        if channels < 1:
            raise ValueError(f'{name} must be at least 1, got {channels}')


def _build_norm(norm: Mapping[str, Any], channels: int) -> nn.Module:
    from mmcv.cnn import build_norm_layer  # here, because connectors without a norm need no mmcv

    with within('norm'):
        return build_norm_layer(dict(norm), channels)[1]

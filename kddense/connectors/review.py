"""The fusion of levels of ReviewKD (Chen, Liu, Zhao, Jia, "Distilling Knowledge via Knowledge Review", CVPR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.registry import MODELS

MOST_CHANNELS = 512


@MODELS.register_module()
class ReviewConnector(nn.Module):
    """Attention-based fusion: each level is mixed with what the deeper ones gave.

    From the deepest level on: a 1x1 convolution; the result of the deeper level is resized to it (nearest); two maps of
    weights, sigmoids of a 1x1 convolution of both, mix the two; a 3x3 convolution leads to the teacher's channels. What the
    mix gave, before the 3x3 convolution, is handed to the next finer level. Both convolutions have a batch norm.

    Args:
        in_channels: The student's, one number per level, the finest first.
        out_channels: The teacher's, as many.
        middle_channels: Of the mix; by default those of the student's deepest level, 512 at the most.

        precision: ``'bf16'`` computes the convolutions in bfloat16, as under autocast; weights and what is returned stay
            float32. At the finest level they cost as much as those of the pyramid itself.

    Raises:
        ValueError: If there is no level, the numbers of levels differ, or the precision is another.
    """

    fuses = True

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        middle_channels: int | None = None,
        precision: Literal['fp32', 'bf16'] = 'fp32',
    ) -> None:
        super().__init__()
        if not in_channels or len(in_channels) != len(out_channels):
            raise ValueError(f'levels must be as many on both sides, got {len(in_channels)} and {len(out_channels)}')
        middle = min(in_channels[-1], MOST_CHANNELS) if middle_channels is None else middle_channels
        if middle < 1:
            raise ValueError(f'middle_channels must be at least 1, got {middle}')
        if precision not in ('fp32', 'bf16'):
            raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
        self.precision: str = precision
        self.inward = nn.ModuleList(_convolution(channels, middle, 1) for channels in in_channels)
        self.weigh = nn.ModuleList(nn.Conv2d(2 * middle, 2, 1) for _ in in_channels[1:])
        self.outward = nn.ModuleList(_convolution(middle, channels, 3) for channels in out_channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Map levels ``(N, C, H, W)``, the finest first, to as many with the teacher's channels."""
        if self.precision == 'fp32':
            return self._fused(levels)
        with torch.autocast(levels[0].device.type, torch.bfloat16):
            return [level.float() for level in self._fused(levels)]

    def _fused(self, levels: Sequence[Tensor]) -> list[Tensor]:
        mixed = self.inward[-1](levels[-1])
        results = [self.outward[-1](mixed)]
        for index in reversed(range(len(levels) - 1)):
            own = self.inward[index](levels[index])
            deeper = F.interpolate(mixed, own.shape[-2:], mode='nearest')
            weights = self.weigh[index](torch.cat([own, deeper], dim=1)).sigmoid()
            mixed = own * weights[:, :1] + deeper * weights[:, 1:]
            results.append(self.outward[index](mixed))
        return results[::-1]


def _convolution(in_channels: int, out_channels: int, size: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))

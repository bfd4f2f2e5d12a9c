"""The non-local operation (Wang et al., "Non-local Neural Networks", CVPR 2018), within one map or across two."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.registry import MODELS


@MODELS.register_module()
class NonLocalBlock(nn.Module):
    r"""Adds to every place of a map what all places of a reference tell it, by dot products.

    .. math:: z_i = x_i + W \Big( \frac{1}{M} \sum_j \theta(x_i)^\top \phi(y_j) \, g(y_j) \Big)

    x are the places of the map, y those of the reference, M their number after pooling; θ, φ, g are 1x1 convolutions to
    fewer channels, W is one back to all of them and a batch norm that begins with 0: at first ``z = x``. Without a softmax,
    the sum over places is taken first: memory is that of the channels squared, not of the places squared. The sum runs
    in float32 under autocast.

    Args:
        channels: Of both maps.
        reduction: The inner channels are ``channels // reduction``, at least 1.
        pool: φ and g look at the greatest value of each square of so many places; 1 leaves them as they are. A map that is
            lower or narrower is pooled as far as it goes.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(self, channels: int, reduction: int = 2, pool: int = 1) -> None:
        super().__init__()
        for name, value in (('channels', channels), ('reduction', reduction), ('pool', pool)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        inner = max(channels // reduction, 1)
        self.pool = pool
        self.theta, self.phi, self.g = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.out = nn.Sequential(nn.Conv2d(inner, channels, 1), norm)

    def forward(self, x: Tensor, reference: Tensor | None = None) -> Tensor:
        """Return a map of the shape of ``x``, ``(N, C, H, W)``; the reference, by default ``x``, may have another size."""
        reference = x if reference is None else reference
        queries, keys, values = self.theta(x), self._pooled(self.phi(reference)), self._pooled(self.g(reference))
        with torch.autocast(x.device.type, enabled=False):
            told = _told(queries.float(), keys.float(), values.float())
        return x + self.out(told.to(queries.dtype))

    def _pooled(self, maps: Tensor) -> Tensor:
        return F.max_pool2d(maps, [min(self.pool, length) for length in maps.shape[-2:]])


def _told(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    places = keys.flatten(2).shape[2]
    summed = values.flatten(2) @ (keys.flatten(2) / places).transpose(1, 2)
    return (summed @ queries.flatten(2)).view(*values.shape[:2], *queries.shape[2:])

"""How weights become few bits, as parts of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from kddense.registry import MODELS

from ._checks import check_bits, check_bucket_size
from .bucketed import BUCKET_SIZE, bucketed, bucketed_bits
from .steps import Mode
from .ternary import ternary
from .uniform import affine, symmetric, wrpn

FLOAT_BITS = 32


class WeightQuantiser(nn.Module):
    """What a quantiser of weights is. Of a new one, :meth:`forward` is written, and :meth:`bits_of`.

    Attributes:
        learns: Whether it has numbers of its own that are trained: see :class:`LearningQuantiser`.
        straight: Whether a weight's gradient is everywhere that of its rounded value.
        iteration: That of the run, by which random numbers are chosen.
    """

    learns = False
    straight = False
    iteration = 0

    def forward(self, weight: Tensor, layer: str = '', axis: int = 0) -> Tensor:
        """Return the weight as it is computed with.

        Args:
            weight: That of a layer.
            layer: Its path in the student.
            axis: The dimension of its output channels.

        Returns:
            Same shape and dtype, with a gradient.
        """
        raise NotImplementedError

    def bits_of(self, weight: Tensor, axis: int = 0) -> int:
        """Return how many bits the weights of a layer take when they are stored."""
        raise NotImplementedError

    def begin(self, weights: Mapping[str, Tensor]) -> None:
        """Make what learns, from the weights of all layers."""

    def record(self) -> dict[str, Any]:
        """Return how the even steps of a weight are found, for :func:`scales_of`; nothing where there are none."""
        return {}


@MODELS.register_module()
class UniformQuantiser(WeightQuantiser):
    """Even steps for each output channel: :func:`symmetric` or :func:`affine`.

    Args:
        bits: 2 to 8, of affine steps also 1.
        mode: ``'symmetric'`` about 0, or ``'affine'`` from the least to the greatest weight.

    Example:
        >>> UniformQuantiser(bits=4)(torch.tensor([[7.0, 3.4]]))
        tensor([[7., 3.]])
    """

    def __init__(self, bits: int, mode: Mode = 'symmetric') -> None:
        super().__init__()
        check_bits(bits, 2 if mode == 'symmetric' else 1, f'{mode} steps')
        self.bits = bits
        self.mode = mode
        self.straight = mode == 'symmetric'

    def forward(self, weight: Tensor, layer: str = '', axis: int = 0) -> Tensor:
        return (symmetric if self.mode == 'symmetric' else affine)(weight, self.bits, axis)

    def bits_of(self, weight: Tensor, axis: int = 0) -> int:
        numbers = 1 if self.mode == 'symmetric' else 2  # a scale, and where 0 is
        return self.bits * weight.numel() + numbers * FLOAT_BITS * weight.shape[axis]

    def record(self) -> dict[str, Any]:
        return dict(mode=self.mode, bits=self.bits)

    def extra_repr(self) -> str:
        return f'bits={self.bits}, mode={self.mode!r}'


@MODELS.register_module()
class WRPNQuantiser(WeightQuantiser):
    """Weights clipped to [-1, 1] on even steps; see :func:`wrpn`.

    Args:
        bits: 2 to 8; Apprentice has 4.
    """

    def __init__(self, bits: int = 4) -> None:
        super().__init__()
        check_bits(bits, 2, 'WRPN')
        self.bits = bits

    def forward(self, weight: Tensor, layer: str = '', axis: int = 0) -> Tensor:
        return wrpn(weight, self.bits)

    def bits_of(self, weight: Tensor, axis: int = 0) -> int:
        return self.bits * weight.numel()

    def record(self) -> dict[str, Any]:
        return dict(mode='wrpn', bits=self.bits)

    def extra_repr(self) -> str:
        return f'bits={self.bits}'


@MODELS.register_module()
class TernaryQuantiser(WeightQuantiser):
    """Three values for each layer; see :func:`ternary`.

    Args:
        threshold: Of the mean of ``|w|``, up to which a weight is 0.
    """

    def __init__(self, threshold: float = 0.7) -> None:
        super().__init__()
        if threshold < 0:
            raise ValueError(f'threshold must be at least 0, got {threshold}')
        self.threshold = threshold

    def forward(self, weight: Tensor, layer: str = '', axis: int = 0) -> Tensor:
        return ternary(weight, self.threshold)

    def bits_of(self, weight: Tensor, axis: int = 0) -> int:
        return 2 * weight.numel() + FLOAT_BITS

    def record(self) -> dict[str, Any]:
        return dict(mode='ternary', threshold=self.threshold)

    def extra_repr(self) -> str:
        return f'threshold={self.threshold}'


@MODELS.register_module()
class BucketedQuantiser(WeightQuantiser):
    """Even levels between the least and the greatest weight of each bucket; see :func:`bucketed`.

    Args:
        bits: 1 to 8.
        bucket_size: Weights in a bucket; ``None`` for one bucket a layer.
        rounding: ``'nearest'`` level, or ``'stochastic'``: in training by random numbers that depend on the seed, the
            iteration and the layer alone, in tests the nearest.
        seed: Of those numbers, at least 0.
    """

    def __init__(
        self,
        bits: int,
        bucket_size: int | None = BUCKET_SIZE,
        rounding: Literal['nearest', 'stochastic'] = 'nearest',
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_bits(bits)
        check_bucket_size(bucket_size)
        if seed < 0:
            raise ValueError(f'seed must be at least 0, got {seed}')
        self.bits = bits
        self.bucket_size = bucket_size
        self.rounding = rounding
        self.seed = seed

    def forward(self, weight: Tensor, layer: str = '', axis: int = 0) -> Tensor:
        is_drawn = self.rounding == 'stochastic' and self.training
        return bucketed(weight, self.bits, self.bucket_size, self._numbers(weight, layer) if is_drawn else None)

    def _numbers(self, weight: Tensor, layer: str) -> Tensor:
        """Return the same numbers whenever a layer runs in one iteration: several times, once more for a checkpoint."""
        seeds = np.random.SeedSequence((self.seed, self.iteration, *layer.encode()))
        generator = torch.Generator(weight.device).manual_seed(int(seeds.generate_state(1)[0]))
        return torch.rand(weight.shape, generator=generator, device=weight.device)

    def bits_of(self, weight: Tensor, axis: int = 0) -> int:
        return bucketed_bits(weight.numel(), self.bits, self.bucket_size)

    def extra_repr(self) -> str:
        return f'bits={self.bits}, bucket_size={self.bucket_size}, rounding={self.rounding!r}'

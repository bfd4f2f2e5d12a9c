"""Quantisers of weights whose values learn, as parts of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kddense.registry import MODELS

from ._checks import check_bits, check_bucket_size
from .bucketed import BUCKET_SIZE, bucketed_bits, nearest_points, percentile_points
from .learned_steps import SMALLEST_STEP, first_step, on_learned_steps
from .per_layer import PerLayer
from .quantisers import FLOAT_BITS, WeightQuantiser
from .steps import signed_ends


class LearningQuantiser(PerLayer, WeightQuantiser):
    """What has numbers for each layer that are trained; the first ones come from its weights.

    Attributes:
        rests: Whether the weights themselves rest.
        numbers: Those of each layer.
    """

    learns = True
    rests = False

    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.ParameterList()

    def begin(self, weights: Mapping[str, Tensor]) -> None:
        self.layers = {layer: number for number, layer in enumerate(weights)}
        self.numbers = nn.ParameterList(nn.Parameter(self.first(one)) for one in weights.values())

    def first(self, weight: Tensor) -> Tensor:
        """Return the numbers that a layer begins with."""
        raise NotImplementedError

    def tidy(self) -> None:
        """After a step: keep the numbers what they are."""
        raise NotImplementedError

    def learnt(self) -> dict[str, Tensor]:
        return {layer: self.numbers[number].detach().cpu().clone() for layer, number in self.layers.items()}

    def take(self, layer: str, learnt: Tensor) -> None:
        self.numbers[self.layers[layer]].copy_(learnt)


@MODELS.register_module()
class LearnedPointsQuantiser(LearningQuantiser):
    """``2^bits`` points for each layer, which learn while its weights rest; see :func:`nearest_points`.

    Points begin at percentiles of a layer's weights, so that these should be trained ones.

    Args:
        bits: 1 to 8.
        bucket_size: Weights in a bucket; ``None`` for one bucket a layer.
    """

    name = 'learned points'
    key = 'points'
    rests = True

    def __init__(self, bits: int, bucket_size: int | None = BUCKET_SIZE) -> None:
        super().__init__()
        check_bits(bits)
        check_bucket_size(bucket_size)
        self.bits = bits
        self.bucket_size = bucket_size

    def first(self, weight: Tensor) -> Tensor:
        return percentile_points(weight, 2**self.bits, self.bucket_size)

    def forward(self, weight: Tensor, layer: str = '', axis: int = 0) -> Tensor:
        return nearest_points(weight, self.numbers[self.layers[layer]], self.bucket_size)

    def check(self, layer: str, learnt: Tensor) -> None:
        if learnt.numel() != 2**self.bits:
            raise ValueError(
                f'the checkpoint holds {learnt.numel()} learned points of the layer {layer} and '
                f'weights.bits={self.bits} makes {2**self.bits}: give the bits that it was trained with'
            )

    @torch.no_grad()
    def tidy(self) -> None:
        """Bring the points of each layer into order again."""
        for one in self.numbers:
            one.copy_(one.sort().values)

    def bits_of(self, weight: Tensor, axis: int = 0) -> int:
        return bucketed_bits(weight.numel(), self.bits, self.bucket_size) + FLOAT_BITS * 2**self.bits

    def extra_repr(self) -> str:
        return f'bits={self.bits}, bucket_size={self.bucket_size}'


@MODELS.register_module()
class LSQQuantiser(LearningQuantiser):
    """Even steps about 0 for each layer, whose size learns with the weights (LSQ); see :func:`on_learned_steps`.

    Whole numbers reach from ``-2^(bits-1)`` to ``2^(bits-1) - 1``.

    Args:
        bits: 2 to 8.

    Raises:
        ValueError: If ``bits`` does not fit.
    """

    name = 'learned steps of weights'
    key = 'steps'

    def __init__(self, bits: int) -> None:
        super().__init__()
        check_bits(bits, 2, 'learned steps')
        self.bits = bits

    def first(self, weight: Tensor) -> Tensor:
        return first_step(weight, signed_ends(self.bits)[1])

    def forward(self, weight: Tensor, layer: str = '', axis: int = 0) -> Tensor:
        step = self.numbers[self.layers[layer]]
        return on_learned_steps(weight, step, *signed_ends(self.bits), count=weight.numel())

    @torch.no_grad()
    def tidy(self) -> None:
        """Keep steps greater than 0."""
        for one in self.numbers:
            one.clamp_(min=SMALLEST_STEP)

    def bits_of(self, weight: Tensor, axis: int = 0) -> int:
        return self.bits * weight.numel() + FLOAT_BITS

    def record(self) -> dict[str, Any]:
        return dict(mode='learned', bits=self.bits)

    def extra_repr(self) -> str:
        return f'bits={self.bits}'

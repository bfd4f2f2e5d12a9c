"""Weights of few bits: how they are rounded, with gradients as if they were not, and which layers compute with them."""

from .bucketed import bucketed, bucketed_bits, buckets_of, nearest_points, percentile_points
from .layers import WeightSwap, axis_of, choose_layers, layers_of, weight_of
from .quantisers import (
    BucketedQuantiser,
    LearnedPointsQuantiser,
    TernaryQuantiser,
    UniformQuantiser,
    WeightQuantiser,
    WRPNQuantiser,
)
from .straight_through import straight_through, without_gradient
from .ternary import ternary
from .uniform import affine, symmetric, wrpn

__all__ = [
    'BucketedQuantiser',
    'LearnedPointsQuantiser',
    'TernaryQuantiser',
    'UniformQuantiser',
    'WRPNQuantiser',
    'WeightQuantiser',
    'WeightSwap',
    'affine',
    'axis_of',
    'bucketed',
    'bucketed_bits',
    'buckets_of',
    'choose_layers',
    'layers_of',
    'nearest_points',
    'percentile_points',
    'straight_through',
    'symmetric',
    'ternary',
    'weight_of',
    'without_gradient',
    'wrpn',
]

"""Few bits: how weights and activations are rounded, with gradients as if they were not, and which layers compute so."""

from .activations import ActivationQuantiser, LSQActivationQuantiser, MinMaxQuantiser
from .bucketed import bucketed, bucketed_bits, buckets_of, nearest_points, percentile_points
from .folding import axis_of, fold_factor, norms_behind
from .layers import QuantisedLayer, choose_layers, layers_of, weight_of
from .learned_steps import first_step, on_learned_steps
from .learning import LearnedPointsQuantiser, LearningQuantiser, LSQQuantiser
from .quantisers import BucketedQuantiser, TernaryQuantiser, UniformQuantiser, WeightQuantiser, WRPNQuantiser
from .scales import LayerScales, scales_of
from .steps import Steps, steps_between
from .straight_through import straight_through, without_gradient
from .student import QuantisedStudent
from .ternary import ternary
from .uniform import affine, on_steps, symmetric, wrpn

__all__ = [
    'ActivationQuantiser',
    'BucketedQuantiser',
    'LSQActivationQuantiser',
    'LSQQuantiser',
    'LayerScales',
    'LearnedPointsQuantiser',
    'LearningQuantiser',
    'MinMaxQuantiser',
    'QuantisedLayer',
    'QuantisedStudent',
    'Steps',
    'TernaryQuantiser',
    'UniformQuantiser',
    'WRPNQuantiser',
    'WeightQuantiser',
    'affine',
    'axis_of',
    'bucketed',
    'bucketed_bits',
    'buckets_of',
    'choose_layers',
    'first_step',
    'fold_factor',
    'layers_of',
    'nearest_points',
    'norms_behind',
    'on_learned_steps',
    'on_steps',
    'percentile_points',
    'scales_of',
    'steps_between',
    'straight_through',
    'symmetric',
    'ternary',
    'weight_of',
    'without_gradient',
    'wrpn',
]

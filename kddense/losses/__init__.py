"""Losses, one file per paper: pure functions (tensors in, tensor out) and thin registered modules over them.

No loss carries a weight of its own: an objective's ``weight`` is the only one. Each says what it averages over. All of
them compute in float32 at least, also under autocast, and treat the teacher as a constant.
"""

from kddense.losses.adversarial import (
    adversarial_loss,
    gradient_penalty,
    hinge_discriminator_loss,
    wasserstein_discriminator_loss,
)
from kddense.losses.ail import (
    AttentiveHintLoss,
    AttentiveImitationLoss,
    attention_weight,
    attentive_imitation,
    attentive_regression,
    sample_error,
)
from kddense.losses.bounded_regression import (
    BoundedRegressionLoss,
    BoxImitationLoss,
    bounded_regression,
    box_imitation,
)
from kddense.losses.cwd import CWDLoss, channel_wise_divergence
from kddense.losses.depth import (
    LogL1Loss,
    OrderedCrossEntropyLoss,
    VirtualNormalLoss,
    log_l1,
    ordered_cross_entropy,
    virtual_normal_distance,
)
from kddense.losses.hint import HintLoss, fitnets_distance, hint_distance
from kddense.losses.hinton import HintonLoss, sigmoid_soft_target_divergence, soft_target_divergence
from kddense.losses.ld import LDLoss, atss_thresholds, localization_distillation, valuable_region
from kddense.losses.pkd import PKDLoss, pearson_distance
from kddense.losses.skd import PairWiseLoss, PixelWiseLoss, pair_wise_similarity, pixel_wise_divergence
from kddense.losses.weighted_soft_target import (
    WeightedSoftTargetLoss,
    weighted_soft_binary_cross_entropy,
    weighted_soft_cross_entropy,
)

__all__ = [
    'AttentiveHintLoss',
    'AttentiveImitationLoss',
    'BoundedRegressionLoss',
    'BoxImitationLoss',
    'CWDLoss',
    'HintLoss',
    'HintonLoss',
    'LDLoss',
    'LogL1Loss',
    'OrderedCrossEntropyLoss',
    'PKDLoss',
    'PairWiseLoss',
    'PixelWiseLoss',
    'VirtualNormalLoss',
    'WeightedSoftTargetLoss',
    'adversarial_loss',
    'atss_thresholds',
    'attention_weight',
    'attentive_imitation',
    'attentive_regression',
    'bounded_regression',
    'box_imitation',
    'channel_wise_divergence',
    'fitnets_distance',
    'gradient_penalty',
    'hinge_discriminator_loss',
    'hint_distance',
    'localization_distillation',
    'log_l1',
    'ordered_cross_entropy',
    'pair_wise_similarity',
    'pearson_distance',
    'pixel_wise_divergence',
    'sample_error',
    'sigmoid_soft_target_divergence',
    'soft_target_divergence',
    'valuable_region',
    'virtual_normal_distance',
    'wasserstein_discriminator_loss',
    'weighted_soft_binary_cross_entropy',
    'weighted_soft_cross_entropy',
]

"""Losses, one file per paper: pure functions (tensors in, tensor out) and thin registered modules over them.

No loss carries a weight of its own: an objective's ``weight`` is the only one. Each says what it averages over. All of
them compute in float32 at least, also under autocast, and treat the teacher as a constant.
"""

from kddense.losses.ab import ABLoss, boundary_distance
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
from kddense.losses.apprentice import ApprenticeLoss, soft_cross_entropy
from kddense.losses.at import ATLoss, attention_distance, attention_map, gradient_distance
from kddense.losses.ban import BANLoss, confidence_weighted, permuted_divergence, permuted_targets
from kddense.losses.bounded_regression import (
    BoundedRegressionLoss,
    BoxImitationLoss,
    bounded_regression,
    box_imitation,
)
from kddense.losses.cankd import InstanceNormalisedLoss, instance_normalised_distance
from kddense.losses.cirkd import CrossImageLoss, cross_image_divergence, memory_divergence
from kddense.losses.cosine import CosineLoss, cosine_distance
from kddense.losses.crd import info_nce, noise_contrastive_estimation
from kddense.losses.crosskd import (
    QualityFocalDivergenceLoss,
    centerness,
    matched_statistics,
    quality_focal_divergence,
)
from kddense.losses.cwd import CWDLoss, channel_wise_divergence
from kddense.losses.darkrank import DarkRankLoss, hard_rank_loss, similarity_scores, soft_rank_loss
from kddense.losses.defeat import DecoupledLoss, covered_mask, decoupled_distance
from kddense.losses.depth import (
    LogL1Loss,
    OrderedCrossEntropyLoss,
    VirtualNormalLoss,
    log_l1,
    ordered_cross_entropy,
    virtual_normal_distance,
)
from kddense.losses.detrdistill import (
    MatchedLoss,
    match_predictions,
    matched_distance,
    query_quality,
    target_aware_distance,
    target_mask,
)
from kddense.losses.dice import SoftDiceLoss, dice_distance
from kddense.losses.dist import DISTLoss, relation_distance
from kddense.losses.dkd import DKDLoss, decoupled_divergence
from kddense.losses.fbkd import root_distance, spatial_attention
from kddense.losses.fgd import FGDLoss, attention_difference, channel_attention, focal_distance, focal_masks
from kddense.losses.fgfi import MaskedImitationLoss, masked_imitation, near_object_mask
from kddense.losses.fsp import FSPLoss, flow_distance, flow_matrix
from kddense.losses.gid import (
    general_instances,
    instance_distance,
    instance_relation,
    near_instances,
    response_distance,
)
from kddense.losses.hint import HintLoss, fitnets_distance, hint_distance
from kddense.losses.hinton import HintonLoss, sigmoid_soft_target_divergence, soft_target_divergence
from kddense.losses.ifvd import IFVDLoss, intra_class_similarity, intra_class_variation
from kddense.losses.kd_detr import QueryDistance, SharedQueryLoss, shared_query_distance
from kddense.losses.ld import LDLoss, atss_thresholds, localization_distillation, valuable_region
from kddense.losses.logit_std import standardize_logits
from kddense.losses.mask_queries import MaskQueryDistance, match_masks, matched_mask_distance
from kddense.losses.mgd import MGDLoss, generation_distance, without_places
from kddense.losses.nst import NSTLoss, neuron_selectivity_distance
from kddense.losses.ofd import OFDLoss, negative_mean, partial_distance
from kddense.losses.pkd import PKDLoss, pearson_distance
from kddense.losses.privileged import ImitationLoss, imitation
from kddense.losses.quantized_distillation import QuantizedDistillationLoss
from kddense.losses.relative_depth import (
    DepthGradientLoss,
    ScaleShiftInvariantLoss,
    depth_gradient_distance,
    scale_shift_invariant_distance,
)
from kddense.losses.review import HierarchicalContextLoss, hierarchical_context_distance
from kddense.losses.rkd import RKDLoss, angle_relation, distance_relation
from kddense.losses.skd import PairWiseLoss, PixelWiseLoss, pair_wise_similarity, pixel_wise_divergence
from kddense.losses.weighted_soft_target import (
    WeightedSoftTargetLoss,
    weighted_soft_binary_cross_entropy,
    weighted_soft_cross_entropy,
)
from kddense.losses.whitened import WhitenedLoss, whitened_distance

__all__ = [
    'ABLoss',
    'ATLoss',
    'ApprenticeLoss',
    'AttentiveHintLoss',
    'AttentiveImitationLoss',
    'BANLoss',
    'BoundedRegressionLoss',
    'BoxImitationLoss',
    'CWDLoss',
    'CosineLoss',
    'CrossImageLoss',
    'DISTLoss',
    'DKDLoss',
    'DarkRankLoss',
    'DecoupledLoss',
    'DepthGradientLoss',
    'FGDLoss',
    'FSPLoss',
    'HierarchicalContextLoss',
    'HintLoss',
    'HintonLoss',
    'IFVDLoss',
    'ImitationLoss',
    'InstanceNormalisedLoss',
    'LDLoss',
    'LogL1Loss',
    'MGDLoss',
    'MaskQueryDistance',
    'MaskedImitationLoss',
    'MatchedLoss',
    'NSTLoss',
    'OFDLoss',
    'OrderedCrossEntropyLoss',
    'PKDLoss',
    'PairWiseLoss',
    'PixelWiseLoss',
    'QualityFocalDivergenceLoss',
    'QuantizedDistillationLoss',
    'QueryDistance',
    'RKDLoss',
    'ScaleShiftInvariantLoss',
    'SharedQueryLoss',
    'SoftDiceLoss',
    'VirtualNormalLoss',
    'WeightedSoftTargetLoss',
    'WhitenedLoss',
    'adversarial_loss',
    'angle_relation',
    'atss_thresholds',
    'attention_difference',
    'attention_distance',
    'attention_map',
    'attention_weight',
    'attentive_imitation',
    'attentive_regression',
    'boundary_distance',
    'bounded_regression',
    'box_imitation',
    'centerness',
    'channel_attention',
    'channel_wise_divergence',
    'confidence_weighted',
    'cosine_distance',
    'covered_mask',
    'cross_image_divergence',
    'decoupled_distance',
    'decoupled_divergence',
    'depth_gradient_distance',
    'dice_distance',
    'distance_relation',
    'fitnets_distance',
    'flow_distance',
    'flow_matrix',
    'focal_distance',
    'focal_masks',
    'general_instances',
    'generation_distance',
    'gradient_distance',
    'gradient_penalty',
    'hard_rank_loss',
    'hierarchical_context_distance',
    'hinge_discriminator_loss',
    'hint_distance',
    'imitation',
    'info_nce',
    'instance_distance',
    'instance_normalised_distance',
    'instance_relation',
    'intra_class_similarity',
    'intra_class_variation',
    'localization_distillation',
    'log_l1',
    'masked_imitation',
    'match_masks',
    'match_predictions',
    'matched_distance',
    'matched_mask_distance',
    'matched_statistics',
    'memory_divergence',
    'near_instances',
    'near_object_mask',
    'negative_mean',
    'neuron_selectivity_distance',
    'noise_contrastive_estimation',
    'ordered_cross_entropy',
    'pair_wise_similarity',
    'partial_distance',
    'pearson_distance',
    'permuted_divergence',
    'permuted_targets',
    'pixel_wise_divergence',
    'quality_focal_divergence',
    'query_quality',
    'relation_distance',
    'response_distance',
    'root_distance',
    'sample_error',
    'scale_shift_invariant_distance',
    'shared_query_distance',
    'sigmoid_soft_target_divergence',
    'similarity_scores',
    'soft_cross_entropy',
    'soft_rank_loss',
    'soft_target_divergence',
    'spatial_attention',
    'standardize_logits',
    'target_aware_distance',
    'target_mask',
    'valuable_region',
    'virtual_normal_distance',
    'wasserstein_discriminator_loss',
    'weighted_soft_binary_cross_entropy',
    'weighted_soft_cross_entropy',
    'whitened_distance',
    'without_places',
]

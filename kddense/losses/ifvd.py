"""IFVD (Wang, Zhou, Jiang, Bai, Xu, "Intra-class Feature Variation Distillation for Semantic Segmentation", ECCV 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import full_precision
from kddense.losses._vectors import unit_vectors
from kddense.registry import MODELS

EPSILON = 1e-8


def intra_class_similarity(features: Tensor, labels: Tensor) -> Tensor:
    """Cosine of each position's feature with the mean feature of its class in the same image.

    Args:
        features: Shape ``(N, C, H, W)``, float32 or float64.
        labels: The class of each position, integers, ``(N, H, W)``. Where it is negative, the feature is compared with
            itself, so that the cosine is 1.

    Returns:
        Shape ``(N, H, W)``; 0 where the feature or the mean is 0.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> features = torch.tensor([[[[1.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [2.0, 1.0]]]])
        >>> intra_class_similarity(features, torch.tensor([[[0, 0], [1, 1]]]))
        tensor([[[0.8944, 0.9487],
                 [0.9487, 0.8944]]])
    """
    _check(features, labels)
    flat = features.flatten(2)
    present, groups = labels.flatten(1).unique(return_inverse=True)
    if len(present) == 0:
        return features.sum(1)
    belongs = F.one_hot(groups, len(present)).to(flat.dtype)
    with torch.autocast(features.device.type, enabled=False):
        centres = unit_vectors(flat @ belongs, 1)  # a sum has the direction of the mean, all that a cosine sees
        products = (centres.transpose(1, 2) @ flat).gather(1, groups[:, None])[:, 0]
    length = torch.linalg.vector_norm(flat, dim=1)
    alive = length > EPSILON
    cosine = torch.where(alive, products / torch.where(alive, length, 1.0), 0.0)
    return torch.where(labels.flatten(1) >= 0, cosine, 1.0).view(labels.shape)


def intra_class_variation(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Mean squared difference of :func:`intra_class_similarity`, over all positions of all images.

    How far the features of a class spread around their centre is imitated, not the features: the two may differ in channels,
    in scale and by a rotation. Positions without a class count in the mean, with a difference of 0, as in the released code.

    Args:
        student: Features, shape ``(N, C, H, W)``, of any floating dtype; computed in float32, or in float64 if either
            input is.
        teacher: Features ``(N, C', H, W)``. No gradient flows into it.
        labels: The class of each position, integers, ``(N, H, W)``, negative where there is none.

    Returns:
        A scalar; for maps without elements, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes do not fit.
    """
    _check(student, labels)
    _check(teacher, labels)
    student, teacher = full_precision(student, teacher.detach())
    ours, theirs = intra_class_similarity(student, labels), intra_class_similarity(teacher, labels)
    return F.mse_loss(ours, theirs, reduction='sum') / max(ours.numel(), 1)


def _check(features: Tensor, labels: Tensor) -> None:
    if features.ndim != 4:
        raise ValueError(f'student and teacher must be maps of shape (N, C, H, W), got {tuple(features.shape)}')
    positions = (len(features), *features.shape[2:])
    if tuple(labels.shape) != positions or labels.dtype.is_floating_point:
        raise ValueError(f'labels must be integers of shape {positions}, got {labels.dtype} {tuple(labels.shape)}')


@MODELS.register_module()
class IFVDLoss(nn.Module):
    """:func:`intra_class_variation`, averaged over positions."""

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return intra_class_variation(student, teacher, labels)

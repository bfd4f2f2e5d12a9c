"""Relational knowledge distillation (Park, Kim, Lu and Cho, CVPR 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import check_not_negative, full_precision
from kddense.losses._vectors import inner_products
from kddense.registry import MODELS

EPSILON = 1e-12  # of the mean squared length: what lies nearer to one another coincides


def distance_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """How far apart the samples of a batch are, each network's distances by their mean: Huber loss of the two.

    The mean is over pairs of different places; through the student's, gradient flows. The loss is averaged over all N²
    entries, the diagonal's zeros among them, as in the authors' code. Two samples alone have one distance, which by its mean
    is always 1: they teach nothing.

    Args:
        student: Embeddings, shape ``(N, C)``, of any floating dtype; computed in float32, or in float64 if either is.
        teacher: The teacher's, shape ``(N, C')``. No gradient flows into it.

    Returns:
        A scalar; a 0 that back-propagates for fewer than two samples.

    Raises:
        ValueError: If these are not rows of as many samples.

    Example:
        >>> teacher = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]])
        >>> distance_relation(torch.tensor([[0.0], [1.0], [3.0]]), teacher)
        tensor(0.0972)
    """
    check_embeddings(student, teacher)
    if len(student) < 2:
        return student.sum() * 0
    own, other = full_precision(student, teacher.detach())
    return F.smooth_l1_loss(_relative_distances(own), _relative_distances(other)).to(own.dtype)


def angle_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """The cosines of the angles that triplets of samples form: Huber loss of the two networks', averaged over N³ entries.

    Triplets in which a sample stands twice have the same entry, 0 or 1, in both and count in the average, as in the authors'
    code; those of samples that coincide have 0.

    Args:
        student: Embeddings, shape ``(N, C)``, of any floating dtype; computed in float32, or in float64 if either is.
        teacher: The teacher's, shape ``(N, C')``. No gradient flows into it.

    Returns:
        A scalar; a 0 that back-propagates for fewer than three samples.

    Raises:
        ValueError: If these are not rows of as many samples.

    Example:
        >>> teacher = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]])
        >>> angle_relation(torch.tensor([[0.0], [1.0], [3.0]]), teacher)
        tensor(0.1200)
    """
    check_embeddings(student, teacher)
    if len(student) < 3:
        return student.sum() * 0
    own, other = full_precision(student, teacher.detach())
    return F.smooth_l1_loss(_cosines(own), _cosines(other)).to(own.dtype)


def check_embeddings(student: Tensor, teacher: Tensor) -> None:
    """Raise ``ValueError`` unless both are rows ``(N, C)`` of as many samples."""
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise ValueError(
            'student and teacher must be embeddings (N, C) of as many samples, got '
            f'{tuple(student.shape)}, {tuple(teacher.shape)}'
        )


def _products(embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the inner products of centred embeddings, the distances, and which samples do not coincide, all ``(N, N)``.

    In float64, as distances are differences of products: N² of them are cheap beside N² differences of embeddings.
    """
    centred = embeddings.double()
    centred = centred - centred.mean(dim=0)
    products = inner_products(centred, centred)
    lengths = products.diagonal()
    squared = lengths[:, None] + lengths - 2 * products
    apart = ~(squared <= EPSILON * lengths.mean())  # NaN is, and shows
    return products, torch.where(apart, squared, torch.ones_like(squared)).sqrt() * apart, apart


def _relative_distances(embeddings: Tensor) -> Tensor:
    _, distances, apart = _products(embeddings)
    mean = distances.sum() / apart.sum().clamp(min=1)
    return distances / torch.where(mean == 0, torch.ones_like(mean), mean)


def _cosines(embeddings: Tensor) -> Tensor:
    """Return the cosines at sample i of the angle between samples j and k, ``(N, N, N)``."""
    products, distances, apart = _products(embeddings)
    between = products[None] - products[:, :, None] - products[:, None] + products.diagonal()[:, None, None]
    inverse = apart / torch.where(apart, distances, torch.ones_like(distances))
    return between * inverse[:, :, None] * inverse[:, None]


@MODELS.register_module()
class RKDLoss(nn.Module):
    """``distance`` times :func:`distance_relation` and ``angle`` times :func:`angle_relation`.

    The defaults are those of the paper's classifiers, 25 and 50; in its metric learning they are 1 and 2.

    Args:
        distance: Factor of the distances, at least 0.
        angle: Factor of the angles, at least 0. Their memory grows with the cube of the number of samples.

    Raises:
        ValueError: If a factor is negative, or both are 0.
    """

    def __init__(self, distance: float = 25.0, angle: float = 50.0) -> None:
        super().__init__()
        check_not_negative('distance', distance)
        check_not_negative('angle', angle)
        if distance == angle == 0:
            raise ValueError('distance and angle must not both be 0; to switch the objective off, set its weight to 0')
        self.distance = distance
        self.angle = angle

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of two embeddings of the same samples, ``(N, C)``, a scalar."""
        relations = ((self.distance, distance_relation), (self.angle, angle_relation))
        losses = [factor * relation(student, teacher) for factor, relation in relations if factor > 0]
        return sum(losses[1:], losses[0])

    def extra_repr(self) -> str:
        return f'distance={self.distance}, angle={self.angle}'

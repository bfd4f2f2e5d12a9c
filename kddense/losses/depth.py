"""What a depth estimator learns from its ground truth: logarithmic L1, cross-entropy over depth bins, virtual normals.

A network's own losses, not distillation; :class:`kddense.models.DepthHead` takes them as ``loss_decode``, beside mmseg's
``SiLogLoss``. As mmseg's own they carry a ``loss_weight`` and a ``loss_name``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import check_not_negative, check_positive, check_same_shape, full_precision, mean_over
from kddense.registry import MODELS


def log_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the logarithms of two depth maps.

    Args:
        prediction: Depth above 0, any shape and floating dtype; computed in float32, or float64 if either input is.
        target: True depth in the same unit, same shape; 0 where it is not known.

    Returns:
        A scalar, averaged over all pixels whose depth is known; a 0 that back-propagates if none is.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> log_l1(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 4.0, 0.0]))
        tensor(0.3466)
    """
    check_same_shape(prediction=prediction, target=target)
    prediction, target = full_precision(prediction, target)
    known = target > 0
    return mean_over((prediction.log() - torch.where(known, target, 1).log()).abs(), known)


def ordered_cross_entropy(logits: Tensor, bins: Tensor, sharpness: float = 0.2) -> Tensor:
    """Cross-entropy over depth bins that also credits the bins beside the true one.

    ``-Σ_b exp(-sharpness · (b - b*)²) log p_b``: a miss by one bin costs less than a miss by fifty. With a large
    ``sharpness`` it is plain cross-entropy. (Cao, Wu, Shen, "Estimating Depth from Monocular Images as Classification
    Using Deep Fully Convolutional Residual Networks", TCSVT 2018, with their 0.2; also the metric part of VNL's loss.)

    Args:
        logits: Shape ``(N, B, H, W)``, any floating dtype; computed in float32, or float64 if it is.
        bins: Index of the true bin, integers of shape ``(N, H, W)``; negative where it is not known.
        sharpness: Above 0.

    Returns:
        A scalar, averaged over all pixels whose bin is known; a 0 that back-propagates if none is.

    Raises:
        ValueError: If the shapes do not fit or ``sharpness`` is not above 0.

    Example:
        >>> logits = torch.zeros(1, 4, 1, 1)
        >>> ordered_cross_entropy(logits, torch.tensor([[[1]]]), sharpness=100.0)  # log 4
        tensor(1.3863)
    """
    check_positive('sharpness', sharpness)
    if logits.dim() != 4 or bins.shape != (len(logits), *logits.shape[2:]):
        raise ValueError(
            f'logits (N, B, H, W) and bins (N, H, W) must fit, got {tuple(logits.shape)} and {tuple(bins.shape)}'
        )
    (logits,) = full_precision(logits)
    known = bins >= 0
    count = torch.arange(logits.shape[1], device=logits.device)
    credit = torch.exp(-sharpness * (count[:, None] - count).square().to(logits.dtype))
    weights = credit[bins.clamp(min=0)].permute(0, 3, 1, 2)
    return mean_over(-(weights * logits.log_softmax(dim=1)).sum(dim=1), known)


def virtual_normal_distance(
    prediction: Tensor,
    target: Tensor,
    focal_length: float = 0.81,
    sample_ratio: float = 0.15,
    min_distance: float = 0.6,
    angles: tuple[float, float] = (30.0, 120.0),
    keep: float = 0.75,
) -> Tensor:
    """Compare the normals of planes through random triples of points, in 3-D.

    Both depth maps are lifted to points by a pinhole camera whose principal point is the middle of the image. Triples
    whose true points are too close to each other, or nearly on a line, tell more of noise than of the scene and are left
    out; so is the easiest quarter of the rest. (Yin, Liu, Shen, Yan, "Enforcing Geometric Constraints of Virtual Normal
    for Depth Prediction", ICCV 2019, section 3.2: the angles and the distance are theirs. The released code drops the
    easiest quarter, which the paper does not tell.)

    Draws random numbers from torch's global generator.

    Args:
        prediction: Depth above 0 in metres, shape ``(N, 1, H, W)``, any floating dtype; computed in float32, or float64
            if either input is.
        target: True depth, same shape; 0 where it is not known.
        focal_length: In widths of the image: NYU's camera has 519 pixels at a width of 640, KITTI's 721 at 1242.
        sample_ratio: Triples that are drawn per image, in pixels of the map.
        min_distance: In metres, between any two points of a triple.
        angles: Least and greatest angle at the first and the second point, in degrees.
        keep: The part of the valid triples that counts, the hardest first.

    Returns:
        A scalar: the L1 distance of the unit normals, summed over x, y, z and averaged over the kept triples of the
        batch; a 0 that back-propagates if no triple is valid.

    Raises:
        ValueError: If the shapes differ or are not ``(N, 1, H, W)``, or a number is out of range.
    """
    check_same_shape(prediction=prediction, target=target)
    if prediction.dim() != 4 or prediction.shape[1] != 1:
        raise ValueError(f'prediction and target must have the shape (N, 1, H, W), got {tuple(prediction.shape)}')
    for name, value in (('focal_length', focal_length), ('sample_ratio', sample_ratio), ('keep', keep)):
        check_positive(name, value)
    check_not_negative('min_distance', min_distance)
    prediction, target = full_precision(prediction, target)
    pixels = math.prod(target.shape[1:])
    picked = torch.randint(pixels, (3, max(round(sample_ratio * pixels), 1)), device=target.device)
    known = (target.flatten(1)[:, picked] > 0).all(dim=1)
    truth = _lifted(target, focal_length)[:, picked]
    valid = known & _is_wide(truth, min_distance, angles)
    guess = _lifted(prediction, focal_length)[:, picked]
    distances = (_normals(guess) - _normals(truth)).abs().sum(dim=-1)[valid]
    kept = max(round(keep * len(distances)), min(len(distances), 1))
    return distances.topk(kept).values.sum() / max(kept, 1) + 0 * prediction.sum()


def _lifted(depth: Tensor, focal_length: float) -> Tensor:
    """Return the 3-D point of every pixel, ``(N, H · W, 3)``."""
    height, width = depth.shape[-2:]
    rows, columns = (torch.arange(size, device=depth.device, dtype=depth.dtype) for size in (height, width))
    y, x = torch.meshgrid(rows + 0.5 - height / 2, columns + 0.5 - width / 2, indexing='ij')
    rays = torch.stack([x, y, torch.full_like(x, focal_length * width)], dim=-1) / (focal_length * width)
    return (depth[:, 0, :, :, None] * rays).flatten(1, 2)


def _is_wide(triples: Tensor, min_distance: float, angles: tuple[float, float]) -> Tensor:
    first, second, third = triples.unbind(dim=1)
    sides = [second - first, third - first, third - second]
    apart = torch.stack([side.norm(dim=-1) > min_distance for side in sides]).all(dim=0)
    cosines = torch.stack(
        [F.cosine_similarity(sides[0], sides[1], dim=-1), F.cosine_similarity(-sides[0], sides[2], dim=-1)]
    )
    least, greatest = (math.cos(math.radians(angle)) for angle in angles)
    return apart & ((cosines <= least) & (cosines >= greatest)).all(dim=0)


def _normals(triples: Tensor) -> Tensor:
    first, second, third = triples.unbind(dim=1)
    return F.normalize(torch.linalg.cross(second - first, third - first), dim=-1, eps=1e-8)


class _DepthLoss(nn.Module):
    """What mmseg's heads ask of a loss.

    Attributes:
        reads: What it compares, ``'depth'`` in metres, or ``'bins'``: logits and the index of the true bin.
    """

    reads = 'depth'

    def __init__(self, loss_weight: float, loss_name: str) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.loss_name = loss_name


@MODELS.register_module()
class LogL1Loss(_DepthLoss):
    """:func:`log_l1`, averaged over the pixels of the batch whose depth is known.

    Args:
        loss_weight: Weight among the losses of the head.
        loss_name: Its name in the log.
    """

    def __init__(self, loss_weight: float = 1.0, loss_name: str = 'loss_log_l1') -> None:
        super().__init__(loss_weight, loss_name)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the weighted loss of two depth maps ``(N, 1, H, W)``, 0 in ``target`` where it is not known."""
        return self.loss_weight * log_l1(prediction, target)


@MODELS.register_module()
class OrderedCrossEntropyLoss(_DepthLoss):
    """:func:`ordered_cross_entropy`, averaged over the pixels of the batch whose depth is known.

    Args:
        sharpness: See the function.
        loss_weight: Weight among the losses of the head.
        loss_name: Its name in the log.
    """

    reads = 'bins'

    def __init__(
        self, sharpness: float = 0.2, loss_weight: float = 1.0, loss_name: str = 'loss_ordered_cross_entropy'
    ) -> None:
        super().__init__(loss_weight, loss_name)
        check_positive('sharpness', sharpness)
        self.sharpness = sharpness

    def forward(self, logits: Tensor, bins: Tensor) -> Tensor:
        """Return the weighted loss of logits ``(N, B, H, W)`` and true bins ``(N, H, W)``, -1 where not known."""
        return self.loss_weight * ordered_cross_entropy(logits, bins, self.sharpness)


@MODELS.register_module()
class VirtualNormalLoss(_DepthLoss):
    """:func:`virtual_normal_distance`, averaged over the triples of the batch.

    Args:
        focal_length: See the function.
        sample_ratio: See the function.
        min_distance: See the function.
        loss_weight: Weight among the losses of the head; the paper takes 5 beside the cross-entropy over bins.
        loss_name: Its name in the log.
    """

    def __init__(
        self,
        focal_length: float = 0.81,
        sample_ratio: float = 0.15,
        min_distance: float = 0.6,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_virtual_normal',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        check_positive('focal_length', focal_length)
        check_positive('sample_ratio', sample_ratio)
        check_not_negative('min_distance', min_distance)
        self.focal_length = focal_length
        self.sample_ratio = sample_ratio
        self.min_distance = min_distance

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the weighted loss of two depth maps ``(N, 1, H, W)``, 0 in ``target`` where it is not known."""
        distance = virtual_normal_distance(prediction, target, self.focal_length, self.sample_ratio, self.min_distance)
        return self.loss_weight * distance

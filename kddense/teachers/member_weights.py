"""How much each member of an ensemble counts, by its error on the sample (Zhang, Chen, Wang, ICASSP 2022, CA-MKD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kddense.exchange import Batch, BoxOpinion, MapOpinion
from kddense.views import is_unlabelled

IGNORED = 255


def weights_by_error(errors: Tensor) -> Tensor:
    """Return ``w_k = (1 - exp(L_k) / Σ_j exp(L_j)) / (K - 1)``: they sum to 1, and a smaller error weighs more.

    Args:
        errors: Cross-entropies L with the labels, members first, shape ``(K, …)``, K of at least 2.

    Returns:
        Same shape.
    """
    return (1 - errors.softmax(dim=0)) / (len(errors) - 1)


def errors_of(opinions: Sequence[Any], batch: Batch) -> Tensor | None:
    """Return the cross-entropy of each member for each pixel ``(K, N, h, w)`` or box ``(K, M)``; ``None`` of other opinions.

    0 for all members, which then count alike, where there is no label.
    """
    first = opinions[0]
    if isinstance(first, BoxOpinion):
        unlabelled = torch.tensor([is_unlabelled(one) for one in batch.data_samples], device=first.logits.device)
        boxes = [F.cross_entropy(one.logits, _labels_of_boxes(one), reduction='none') for one in opinions]
        return torch.stack(boxes).masked_fill(unlabelled[first.sample.image], 0)
    if type(first) is not MapOpinion:
        return None
    labels = labels_at(batch, first.logits.shape[-2:])
    logits = [_sized(one.logits, first.logits.shape[-2:]) for one in opinions]
    found = [F.cross_entropy(one, labels.clamp(min=0), reduction='none') for one in logits]
    return torch.stack([torch.where(labels >= 0, one, torch.zeros_like(one)) for one in found])


def by_image(errors: Tensor, opinion: Any, images: int) -> Tensor:
    """Return the mean error of each member on each image, of pixels of those with a label, shape ``(K, N)``."""
    if errors.dim() > 2:
        counted = (errors.detach() > 0).any(dim=0).flatten(1).sum(1)  # a label's is above 0
        return errors.flatten(2).sum(2) / counted.clamp(min=1)
    place = opinion.sample.image.long()
    sums = errors.new_zeros(len(errors), images).index_add(1, place, errors)
    return sums / torch.bincount(place, minlength=images).clamp(min=1)


def labels_at(batch: Batch, size: Sequence[int]) -> Tensor:
    """Return the classes of pixels, shape ``(N, h, w)``, negative where there is none."""
    whole = batch.inputs.shape[-2:]
    maps = [getattr(sample, 'gt_sem_seg', None) for sample in batch.data_samples]
    stacked = batch.inputs.new_full((len(maps), *whole), IGNORED)
    for target, found in zip(stacked, maps, strict=True):
        if found is not None:
            own = found.data.squeeze(0).to(target)
            target[: own.shape[0], : own.shape[1]] = own
    nearest = F.interpolate(stacked[:, None], size=tuple(size), mode='nearest')[:, 0].long()
    return torch.where(nearest == IGNORED, -1, nearest)


def _labels_of_boxes(opinion: BoxOpinion) -> Tensor:
    sample = opinion.sample
    background = opinion.logits.shape[1] - 1
    labels = torch.full((sample.num_sampled,), background, device=opinion.logits.device)
    labels[sample.positive] = getattr(sample, 'labels', 0)  # of an RPN, class 0 is an object
    return labels


def _sized(logits: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode='bilinear', align_corners=False)

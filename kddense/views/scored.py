"""Labels that a model gave and nobody checked: each weighs as much as its score in what is learned of classes.

So Tang et al., Multiple Instance Detection Network with Online Instance Classifier Refinement, CVPR 2017, weigh what is
learned of a box that a network chose. What is averaged over, the number of boxes or of pixels, stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

PIXEL_SCORES = 'pixel_scores'  # in the metainfo of a data sample: of each pixel, in 8 bits
LEAST = 1e-6  # RoI heads count what has a weight above 0


def have_scores(data_samples: Sequence[Any]) -> bool:
    """Tell whether there are ground-truth boxes with scores."""
    return any('scores' in sample.get('gt_instances', ()) for sample in data_samples)


def scores_of(instances: Sequence[Any]) -> list[Tensor]:
    """Return the score of each ground-truth box, ``(G,)`` for each image, above 0; 1 where there is none."""
    return [
        one.scores.clamp(min=LEAST) if 'scores' in one else torch.ones(len(one.labels), device=one.labels.device)
        for one in instances
    ]


def weights_at(boxes: Tensor, image: Tensor, ground_truth: Sequence[Tensor], scores: Sequence[Tensor]) -> Tensor:
    """Return the score of the ground-truth box that each place has to find.

    Args:
        boxes: What places have to find, corners in pixels, ``(P, 4)``: boxes of the ground truth, but for rounding.
        image: The image of each, ``(P,)``.
        ground_truth: The boxes of each image, ``(G, 4)``.
        scores: Theirs, ``(G,)``.

    Returns:
        Shape ``(P,)``.
    """
    weights = boxes.new_ones(len(boxes))
    for number, (known, own) in enumerate(zip(ground_truth, scores, strict=True)):
        rows = (image == number).nonzero().squeeze(1)
        if len(rows):
            weights[rows] = own.to(weights)[torch.cdist(boxes[rows], known.to(boxes), p=1).argmin(dim=1)]
    return weights


def weighing_rois(scores: Sequence[Tensor]) -> Callable[[Callable], Callable]:
    """Return what wraps ``get_targets`` of a box head: positives weigh as much as the boxes they were given.

    Args:
        scores: Of each image's ground-truth boxes, ``(G,)``.
    """

    def wrap(get_targets: Callable) -> Callable:
        def weighed(sampling_results: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
            labels, weights, *boxes = get_targets(sampling_results, *args, **kwargs)
            rows = []
            for result, own in zip(sampling_results, scores, strict=True):
                positives = own.to(result.priors)[result.pos_assigned_gt_inds]
                rows += [positives, positives.new_ones(len(result.neg_inds))]
            return labels, weights * torch.cat(rows), *boxes

        return weighed

    return wrap


def have_pixel_scores(data_samples: Sequence[Any]) -> bool:
    """Tell whether there are labels of pixels with scores."""
    return any(PIXEL_SCORES in sample.metainfo for sample in data_samples)


def weighing_pixels(head: Any) -> Callable[[Callable], Callable]:
    """Return what wraps ``loss_by_feat`` of a decode head: pixels weigh as much as their scores, and as its sampler says."""

    def wrap(loss_by_feat: Callable) -> Callable:
        def weighed(outputs: Any, data_samples: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
            before = head.sampler
            head.sampler = _ByScore(data_samples, before)
            try:
                return loss_by_feat(outputs, data_samples, *args, **kwargs)
            finally:
                head.sampler = before

        return weighed

    return wrap


class _ByScore:
    """What mmseg asks for the weights of pixels."""

    def __init__(self, data_samples: Sequence[Any], other: Any) -> None:
        self.data_samples = data_samples
        self.other = other

    def sample(self, seg_logit: Tensor, seg_label: Tensor) -> Tensor:
        weights = torch.ones_like(seg_label[:, 0], dtype=torch.float32)
        for weight, sample in zip(weights, self.data_samples, strict=True):
            scores = sample.metainfo.get(PIXEL_SCORES)
            if scores is not None:
                rows = torch.as_tensor(scores, device=weight.device).float() / 255
                weight[: rows.shape[0], : rows.shape[1]] = rows  # padding has no label
        return weights if self.other is None else weights * self.other.sample(seg_logit, seg_label)

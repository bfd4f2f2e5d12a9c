"""Samples of images without labels: the anchors, places and proposals of which the student is surest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kddense.exchange import AnchorSample, DenseSample
from kddense.taps import map_tensors, shadowed

from ._models import is_unlabelled
from .unlabelled import give_masks


def with_best(sample: Any, scores: Callable[[], Tensor], data_samples: Sequence[Any], most: int) -> Any:
    """Return a sample of the labelled images of a batch with the best places of the others, which have no positives.

    Args:
        sample: An :class:`AnchorSample` or :class:`DenseSample` of the labelled images alone.
        scores: Returns those of each place of every image, shape ``(N, L)``.
        data_samples: Of every image.
        most: How many places of an image there are at most.
    """
    unlabelled = [is_unlabelled(one) for one in data_samples]
    if not any(unlabelled):
        return sample
    labelled = iter(sample.cut(unlabelled.count(False)))
    rows = zip(unlabelled, scores().detach(), strict=True)
    return type(sample).join([_best(sample, row, most) if alone else next(labelled) for alone, row in rows])


def _best(sample: Any, scores: Tensor, most: int) -> AnchorSample | DenseSample:
    index = scores.topk(min(most, len(scores))).indices.sort().values
    best = replace(sample, index=index, positive=index[:0], targets=sample.targets[:0])
    if isinstance(best, AnchorSample):
        return best
    return replace(
        best,
        labels=torch.full_like(index, sample.num_classes),
        ground_truth=(sample.priors.new_zeros(0, 4),),
        left_out=(len(scores) - len(index),),
    )


@contextmanager
def best_proposals(roi_head: Any, data_samples: Sequence[Any], counting: Sequence[int]) -> Iterator[None]:
    """Context manager: a RoI head takes the best proposals of unlabelled images, as many as its sampler does of others.

    Args:
        roi_head: Its losses are those of all images then.
        data_samples: Of every image, with a ground truth of no boxes where it has no labels.
        counting: The images whose RoIs count in the losses of its box heads.
    """
    blank = [one.gt_instances for one in data_samples if is_unlabelled(one)]
    if roi_head.with_mask:
        give_masks(data_samples)
    heads, samplers = (_stages(one) for one in (roi_head.bbox_head, roi_head.bbox_sampler))
    with ExitStack() as stack:
        for head in heads:
            stack.enter_context(shadowed(head, 'loss', _of_rois_in(counting)))
        for sampler in samplers:
            stack.enter_context(shadowed(sampler, 'sample', _best_of(blank, getattr(sampler, 'num', None))))
        yield


def _stages(parts: Any) -> list[Any]:
    return list(parts) if isinstance(parts, (list, nn.ModuleList)) else [parts]


def _of_rois_in(images: Sequence[int]) -> Callable[[Callable], Callable]:
    def wrap(loss: Callable) -> Callable:
        def of_some(scores: Tensor, boxes: Tensor, rois: Tensor, *targets: Tensor, **options: Any) -> Any:
            rows = torch.isin(rois[:, 0].long(), torch.tensor(images, device=rois.device))
            return loss(*map_tensors(lambda one: one[rows], [scores, boxes, rois, *targets]), **options)

        return of_some

    return wrap


def _best_of(blank: Sequence[Any], most: int | None) -> Callable[[Callable], Callable]:
    from mmdet.models.task_modules.samplers import SamplingResult  # here, because only detectors need mmdet

    def wrap(sample: Callable) -> Callable:
        def chosen(assigned: Any, proposals: Any, instances: Any, *args: Any, **options: Any) -> Any:
            if not any(instances is one for one in blank):
                return sample(assigned, proposals, instances, *args, **options)
            priors = proposals.priors
            count = len(priors) if most is None else min(most, len(priors))
            # From the second stage of a cascade on, boxes have no score, and are no more than were chosen for the first.
            ranked = 'scores' in proposals
            best = proposals.scores.topk(count).indices if ranked else torch.arange(count, device=priors.device)
            none = priors.new_zeros(len(priors), dtype=torch.uint8)
            return SamplingResult(best[:0], best, priors, instances.bboxes, assigned, none)

        return chosen

    return wrap

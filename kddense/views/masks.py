"""Mask heads on RoIs, of Mask R-CNN and its kin: the student's positive RoIs, whose masks both networks draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kddense.exchange import MaskOpinion, MaskSample, ViewError
from kddense.taps import Call, Recording, shadowed

from ._boxes import as_tensor, differing
from ._models import owner_of

FORWARDS = ('StandardRoIHead', 'CascadeRoIHead')  # whose `_mask_forward` takes features and RoIs alone
HEADS = ('FCNMaskHead',)  # whose `loss_and_target` is given the masks of positive RoIs


def mask_heads(model: Any) -> list[Any]:
    """Return the mask heads of a two-stage detector, one per stage."""
    head = getattr(model.roi_head, 'mask_head', None)
    return list(head) if isinstance(head, nn.ModuleList) else [head]


def check_masks(model: Any, owner: str) -> None:
    """Raise a :class:`ViewError` if a two-stage detector draws no masks, or draws them in a way of its own."""
    for head in mask_heads(model):
        if head is None:
            raise ViewError(
                f'{owner} ({type(model).__name__}) has no mask head: take a model with one, such as Mask R-CNN'
            )
        if owner_of(model.roi_head, '_mask_forward') not in FORWARDS or owner_of(head, 'loss_and_target') not in HEADS:
            raise ViewError(
                f'{owner}.roi_head is a {type(model.roi_head).__name__} with a {type(head).__name__}, which draws masks in '
                'a way of its own: only those of Mask R-CNN and Cascade Mask R-CNN can be compared'
            )


def mask_differences(ours: Any, theirs: Any, class_map: Sequence[int] | None) -> list[str]:
    """List the fields in which the masks of two detectors are not about the same things."""
    own, other = mask_heads(ours), mask_heads(theirs)
    if len(own) != len(other):
        return differing([('roi_head.num_stages', len(own), len(other))])
    found: list[tuple[str, Any, Any]] = []
    for stage, (head, taught_by) in enumerate(zip(own, other, strict=True)):
        key = 'roi_head.mask_head' if len(own) == 1 else f'roi_head.mask_head[{stage}]'
        if not (head.class_agnostic or taught_by.class_agnostic):
            classes = taught_by.num_classes if class_map is None else len(class_map)
            found.append((f'{key}.num_classes', head.num_classes, classes))
    return differing(found)


def mask_taps(model: Any) -> list[str]:
    """Return the taps from which :func:`read_masks` reads."""
    if isinstance(model.roi_head.mask_head, nn.ModuleList):
        return [f'roi_head.mask_head.{stage}.loss_and_target()' for stage in range(len(mask_heads(model)))]
    return ['roi_head.mask_head.loss_and_target()']


def read_masks(model: Any, recording: Recording) -> tuple[list[MaskSample], list[MaskOpinion]]:
    """Return the positive RoIs of the student, and the masks that it drew for them, stage by stage."""
    weights = getattr(model.roi_head, 'stage_loss_weights', [1.0])
    first, *later = mask_taps(model)
    # A cascade ends early where no box is left; its first stage always runs.
    calls: list[Call] = [recording[first], *(recording[tap] for tap in later if recording.heard(tap))]
    samples, opinions = [], []
    for head, call, weight in zip(mask_heads(model), calls, weights, strict=False):
        results = call.arguments['sampling_results']
        priors = [as_tensor(one.pos_priors) for one in results]
        boxes = [torch.cat([one.new_full((len(one), 1), row), one], dim=1) for row, one in enumerate(priors)]
        samples.append(MaskSample(torch.cat(boxes), torch.cat([one.pos_gt_labels for one in results]), weight))
        opinions.append(_opinion(head, call.arguments['mask_preds'], samples[-1], samples[-1].labels))
    return samples, opinions


def run_masks(
    model: Any,
    features: Sequence[Tensor],
    samples: Sequence[MaskSample],
    class_map: Sequence[int] | None,
    extract: Callable[[Callable], Callable],
) -> list[MaskOpinion]:
    """Return the masks that a teacher draws for the student's RoIs.

    Args:
        model: The teacher's.
        features: What its RoI head is given.
        samples: One for each stage.
        class_map: For every class of the student the teacher's.
        extract: Wraps the extraction of RoIs.
    """
    roi_head = model.roi_head
    cascade = isinstance(roi_head.mask_head, nn.ModuleList)
    opinions = []
    with _wrapped(roi_head.mask_roi_extractor, extract):
        for stage, (head, sample) in enumerate(zip(mask_heads(model), samples, strict=False)):
            arguments = (stage, features, sample.rois) if cascade else (features, sample.rois)
            masks = roi_head._mask_forward(*arguments)['mask_preds']
            labels = sample.labels
            if class_map is not None:
                labels = torch.tensor(class_map, device=labels.device)[labels]
            opinions.append(_opinion(head, masks, sample, labels))
    return opinions


def blank_masks(model: Any) -> list[MaskSample]:
    """Return made-up samples with which mask heads can run."""
    device = next(model.parameters()).device
    rois = torch.tensor([[0.0, 8.0, 8.0, 40.0, 40.0]], device=device)
    return [MaskSample(rois, torch.zeros(1, dtype=torch.long, device=device))] * len(mask_heads(model))


def _opinion(head: Any, masks: Tensor, sample: MaskSample, labels: Tensor) -> MaskOpinion:
    rows = torch.arange(len(masks), device=masks.device)
    return MaskOpinion(masks[rows, torch.zeros_like(labels) if head.class_agnostic else labels].float(), sample)


@contextmanager
def _wrapped(extractor: Any, extract: Callable[[Callable], Callable]) -> Iterator[None]:
    with ExitStack() as stack:
        for one in extractor if isinstance(extractor, nn.ModuleList) else [extractor]:
            stack.enter_context(shadowed(one, 'forward', extract))
        yield

"""What box heads say of RoIs, and how RoIs are pooled for a teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kddense.exchange import BoxOpinion, RoISample


def roi_opinion(
    head: Any, logits: Tensor, deltas: Tensor, sample: RoISample, class_map: Sequence[int] | None = None
) -> BoxOpinion:
    """Return what a box head said of a sample: deltas are those of the positives, for their classes.

    Args:
        head: The box head.
        logits: Of all RoIs.
        deltas: Of all RoIs, for each class where the head has one for each.
        sample: The RoIs.
        class_map: For every class of the student the head's.
    """
    labels = sample.labels
    if class_map is not None:
        logits = logits[:, [*class_map, head.num_classes]]
        labels = torch.tensor(class_map, device=labels.device)[labels]
    deltas = deltas.unflatten(1, (-1, 4))[sample.positive]
    if not head.reg_class_agnostic:
        deltas = deltas[torch.arange(len(deltas), device=deltas.device), labels]
    return BoxOpinion(logits.float(), deltas.reshape(-1, 4).float(), sample)


def extractors(roi_head: Any) -> list[nn.Module]:
    """Return the modules that pool RoIs for box heads, one per stage."""
    extractor = roi_head.bbox_roi_extractor
    return list(extractor) if isinstance(extractor, nn.ModuleList) else [extractor]


def extract_in_float32(extract: Callable) -> Callable:
    """Return what wraps the ``forward`` of an extractor, so that it pools in float32.

    mmdet rounds RoIs to the type of the features, which in bfloat16 moves them by pixels.
    """

    def extracted(features: Sequence[Tensor], rois: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        wide = tuple(feature.to(torch.float32, memory_format=torch.contiguous_format) for feature in features)
        return extract(wide, rois.float(), *args, **kwargs).to(features[0].dtype)

    return extracted

"""Which pixels of a batch are of its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def inside_images(images: Tensor, data_samples: Sequence[Any]) -> Tensor:
    """Return which pixels of a batch are no padding, boolean, ``(N, H, W)``."""
    inside = torch.zeros(len(images), *images.shape[-2:], dtype=torch.bool, device=images.device)
    for image, sample in zip(inside, data_samples, strict=True):
        height, width = sample.metainfo.get('img_shape', images.shape[-2:])[:2]
        image[:height, :width] = True
    return inside

"""Running transformers as wholes, beside their losses: sizes of images, and the types that layers compute in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor


@contextmanager
def layers_in(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Context manager: layers compute in the type of their weights; positions and points stay in float32."""
    low = dtype != torch.float32
    with torch.autocast(device.type, dtype if low else None, enabled=low):
        yield


def of_whole_images(images: Tensor) -> list[Any]:
    """Return data samples with the sizes of images that have no padding."""
    size = tuple(images.shape[-2:])
    return [BaseDataElement(metainfo=dict(img_shape=size, batch_input_shape=size)) for _ in images]

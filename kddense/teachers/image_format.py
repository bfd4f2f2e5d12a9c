"""Showing one batch of pixels to two networks that normalise, order and pad them differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PixelFormat:
    """How a data preprocessor of mmengine, mmdet or mmseg turns an image into a network's input.

    Attributes:
        mean: Subtracted from each channel, in the network's channel order, 0..255; one or three values.
        std: Divided by.
        reversed_channels: Whether the image's channels are reversed first (BGR ↔ RGB).
        pad_value: What padding holds, in the normalised space.
        size_divisor: Heights and widths are padded to multiples of it.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    reversed_channels: bool = False
    pad_value: float = 0.0
    size_divisor: int = 1

    @classmethod
    def of(cls, preprocessor: Any) -> PixelFormat:
        """Read the format off an ``ImgDataPreprocessor``, ``DetDataPreprocessor`` or ``SegDataPreprocessor``."""
        normalises = getattr(preprocessor, '_enable_normalize', False)
        return cls(
            mean=tuple(preprocessor.mean.flatten().tolist()) if normalises else (0.0,),
            std=tuple(preprocessor.std.flatten().tolist()) if normalises else (1.0,),
            reversed_channels=bool(_first(preprocessor, ('_channel_conversion', 'channel_conversion'), False)),
            pad_value=float(_first(preprocessor, ('pad_value', 'pad_val'), 0.0)),
            size_divisor=int(_first(preprocessor, ('pad_size_divisor', 'size_divisor'), 1) or 1),
        )


def _first(module: Any, names: Sequence[str], default: float | bool) -> float | bool:
    return next((getattr(module, name) for name in names if hasattr(module, name)), default)


def translate(inputs: Tensor, source: PixelFormat, target: PixelFormat, image_sizes: Sequence[Sequence[int]]) -> Tensor:
    """Rewrite a batch made in one format as the batch the other format would have made of the same pixels.

    Padding stays where it is, and is refilled with the target's value. Where the formats agree, ``inputs`` itself is
    returned, bit for bit.

    Args:
        inputs: Normalised images, shape ``(N, C, H, W)``.
        source: The format of ``inputs``.
        target: The format to rewrite it in.
        image_sizes: Height and width of each image without its padding (padding is at the right and the bottom).

    Returns:
        The batch in the target's format, same shape.
    """
    images = inputs
    mean, std = source.mean, source.std
    if source.reversed_channels != target.reversed_channels:
        images, mean, std = images.flip(1), mean[::-1], std[::-1]
    if (mean, std) != (target.mean, target.std):
        width = max(map(len, (mean, std, target.mean, target.std)))
        channels = list(zip(*(_widened(values, width) for values in (mean, std, target.mean, target.std)), strict=True))
        scale = [own_std / new_std for _, own_std, _, new_std in channels]
        shift = [(own_mean - new_mean) / new_std for own_mean, _, new_mean, new_std in channels]
        images = images * _column(scale, images) + _column(shift, images)
    if images is inputs and source.pad_value == target.pad_value:
        return inputs
    return _refill_padding(images, image_sizes, target.pad_value)


def _widened(values: Sequence[float], width: int) -> Sequence[float]:
    return values if len(values) == width else [*values] * width


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return like.new_tensor(values).view(1, -1, 1, 1)


def _refill_padding(images: Tensor, image_sizes: Sequence[Sequence[int]], value: float) -> Tensor:
    height, width = images.shape[-2:]
    if all(tuple(size[:2]) == (height, width) for size in image_sizes):
        return images
    images = images.clone()
    for image, (h, w, *_) in zip(images, image_sizes, strict=True):
        image[:, h:] = value
        image[:, :, w:] = value
    return images


def rescale(images: Tensor, scale: float) -> Tensor:
    """Resize a batch by ``scale`` (bilinear, anti-aliased when it shrinks); 1 returns it untouched."""
    if scale == 1:
        return images
    size = [round(length * scale) for length in images.shape[-2:]]
    return F.interpolate(images, size=size, mode='bilinear', align_corners=False, antialias=scale < 1)


def fit_canvas(images: Sequence[Tensor], canvas: Sequence[int], value: float) -> Tensor:
    """Stack images of differing sizes ``(C, h, w)`` on canvases of one size, padded (or cut) right and bottom."""
    height, width = canvas
    return torch.stack(
        [F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]), value=value) for image in images]
    )


def pad_to_divisor(images: Tensor, divisor: int, value: float) -> Tensor:
    """Pad a batch at the right and the bottom to multiples of ``divisor``; one that has such a size is not copied."""
    height, width = images.shape[-2:]
    missing = (0, -width % divisor, 0, -height % divisor)
    return F.pad(images, missing, value=value) if any(missing) else images

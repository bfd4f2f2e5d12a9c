"""Maps of a padded image, cut to the part that the student's image covers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def in_float32(value: Tensor) -> Tensor:
    """Return a value in float32 and in the plain memory format."""
    return value.to(torch.float32, memory_format=torch.contiguous_format) if value.is_floating_point() else value


def map_of_patches(value: Tensor, image: Sequence[int], patch_size: int | None) -> Tensor:
    """Return tokens ``(N, L, C)`` as the map ``(N, C, h, w)`` of their patches, without the tokens before them.

    Anything else, and all values of models without a patch size, are returned as they are.
    """
    if patch_size is None or value.dim() != 3:
        return value
    height, width = (pixels // patch_size for pixels in image)
    if value.shape[1] < height * width:
        return value
    return value[:, -height * width :].transpose(1, 2).unflatten(2, (height, width))


def cut_to(value: Tensor, image: Sequence[int], covered: Sequence[int], divisor: int = 1) -> Tensor:
    """Cut a map of an image to its covered part.

    A convolutional network with strides of 2 makes of the covered part alone the first cells of the map. The last cell may
    reach beyond the covered part: :func:`kddense.connectors.match_size` knows where.

    Args:
        value: A map ``(N, C, h, w)``; anything else is returned as it is.
        image: Height and width of the image that the network saw, in pixels.
        covered: Height and width of its covered part, at the top left.
        divisor: What the network's images are padded to multiples of.

    Returns:
        The map ``(N, C, h', w')``.
    """
    if value.dim() != 4 or tuple(image) == tuple(covered):
        return value
    for dim, pixels, kept in zip((2, 3), image, covered, strict=True):
        value = _cut(value, dim, pixels, kept, divisor)
    return value.contiguous()


def _cut(value: Tensor, dim: int, pixels: int, covered: int, divisor: int) -> Tensor:
    cells = value.shape[dim]
    stride = _stride(cells, pixels, divisor)
    return value.narrow(dim, 0, min(math.ceil(round(covered / stride, 6)), cells))


def _stride(cells: int, pixels: int, divisor: int) -> float:
    """Return the pixels of one cell: of a patch if the image was padded to whole patches, else a power of two."""
    exact = pixels / cells
    if exact.is_integer() and divisor % int(exact) == 0:
        return exact
    power: float = 2 ** round(math.log2(exact))
    return power if math.ceil(pixels / power) == cells else exact

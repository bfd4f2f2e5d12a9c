"""Bringing two features to one rank and one size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

MOST_PREFIX_TOKENS = 8  # a class token, and the registers of some transformers


def match_rank(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Turn tokens into a map where the other side has a map; all else comes back as it is.

    Args:
        student: A map ``(N, C, H, W)``, tokens ``(N, L, C)`` or vectors ``(N, C)``.
        teacher: The same, with other channels.

    Returns:
        Both, as two maps if one of them was.

    Raises:
        ValueError: If the tokens fill no map of the other's shape.
    """
    if student.dim() == 3 and teacher.dim() == 4:
        return tokens_to_map(student, teacher.shape[-2:]), teacher
    if student.dim() == 4 and teacher.dim() == 3:
        return student, tokens_to_map(teacher, student.shape[-2:])
    return student, teacher


def tokens_to_map(tokens: Tensor, size: Sequence[int]) -> Tensor:
    """Return tokens of a grid of places as a map; tokens before them (class, registers) are left out.

    Args:
        tokens: ``(N, L, C)``, the grid row by row.
        size: Height and width of a map of the same image, of which only the shape counts.

    Returns:
        ``(N, C, h, w)``.

    Raises:
        ValueError: If no grid of so many places has about this shape.
    """
    height, width = size
    for prefix in range(min(MOST_PREFIX_TOKENS, tokens.shape[1] - 1) + 1):
        places = tokens.shape[1] - prefix
        rows = round((places * height / width) ** 0.5)
        if rows and places % rows == 0 and abs(rows * width - places // rows * height) < max(height, width):
            return tokens[:, prefix:].transpose(1, 2).unflatten(2, (rows, places // rows))
    raise ValueError(
        f'{tokens.shape[1]} tokens fill no map of the shape {height} x {width}: tap both models where they have maps'
    )


def match_size(
    student: Tensor,
    teacher: Tensor,
    resize: str = 'student',
    mode: str = 'bilinear',
    image: Sequence[int] | None = None,
    patch: int | None = None,
    scale: float = 1.0,
    stretched: bool = False,
) -> tuple[Tensor, Tensor]:
    """Bring two maps to one height and width; vectors, tokens and maps of equal size come back as they are.

    Args:
        student: ``(N, C, H, W)``; gradients flow through the resizing.
        teacher: ``(N, C', H', W')``.
        resize: Which of the two to resize to the other's size, ``'student'`` or ``'teacher'``.
        mode: As :func:`torch.nn.functional.interpolate` (corners not aligned). ``'area'`` averages when shrinking by
            much, where ``'bilinear'`` skips pixels.
        image: Height and width of the student's input. A network of stride 8 makes 9 cells of 65 pixels, which end at pixel
            72: with the image's size, cells are compared with those of the same pixels, wherever the two maps end; bilinear
            whatever the mode. Without it, both are taken to end at the same pixel.
        patch: Pixels of a patch of the teacher, if it has patches: 14 pixels, say, which no stride is.
        scale: Size of the image that the teacher sees, relative to the student's.
        stretched: Whether the teacher's map ends where the image does, into which it was stretched.

    Returns:
        Both tensors.

    Raises:
        ValueError: If ``resize`` or ``mode`` is unknown.

    Example:
        >>> import torch
        >>> student, teacher = match_size(torch.zeros(2, 8, 10, 10), torch.zeros(2, 16, 20, 20))
        >>> student.shape, teacher.shape
        (torch.Size([2, 8, 20, 20]), torch.Size([2, 16, 20, 20]))
    """
    if resize not in ('student', 'teacher'):
        raise ValueError(f"resize must be one of 'student', 'teacher', got {resize!r}")
    if mode not in _RESIZE_MODES:
        raise ValueError(f'mode must be one of {", ".join(map(repr, _RESIZE_MODES))}, got {mode!r}')
    if student.ndim != 4 or teacher.ndim != 4:
        return student, teacher
    if image is not None:
        ours = [_reach(cells, pixels) for cells, pixels in zip(student.shape[2:], image, strict=True)]
        theirs = [
            pixels if stretched else _reach(cells, seen, patch) * pixels / seen
            for cells, pixels, seen in zip(teacher.shape[2:], image, scaled_size(image, scale), strict=True)
        ]
        if ours != theirs:
            if resize == 'student':
                return _resampled(student, ours, teacher.shape[2:], theirs), teacher
            return student, _resampled(teacher, theirs, student.shape[2:], ours)
    if student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    align_corners = False if mode in ('bilinear', 'bicubic') else None
    if resize == 'student':
        return F.interpolate(student, teacher.shape[2:], mode=mode, align_corners=align_corners), teacher
    return student, F.interpolate(teacher, student.shape[2:], mode=mode, align_corners=align_corners)


def scaled_size(size: Sequence[int], scale: float) -> list[int]:
    """Return height and width of an image that is resized by ``scale``."""
    return [round(length * scale) for length in size]


def _reach(cells: int, pixels: int, patch: int | None = None) -> int:
    """Return the pixel where a map of an image ends: its last patch, or the last cell of a stride of 2, 4, 8 and so on."""
    strides = [*([patch] if patch else []), *(2**power for power in range(pixels.bit_length() + 1))]
    return next((cells * stride for stride in strides if math.ceil(pixels / stride) == cells), pixels)


def _resampled(value: Tensor, reach: Sequence[float], size: Sequence[int], wanted: Sequence[float]) -> Tensor:
    """Return a map that reaches to some pixel at the middles of cells of a map that reaches to another."""
    for dim, own, cells, end in zip((2, 3), reach, size, wanted, strict=True):
        middles = (torch.arange(cells, device=value.device) + 0.5) * (end / cells)
        value = _at_places(value, dim, middles * (value.shape[dim] / own) - 0.5)
    return value


def _at_places(value: Tensor, dim: int, places: Tensor) -> Tensor:
    """Interpolate a map along a dimension, 0 being the middle of its first cell; outside, the nearest cell is read."""
    places = places.clamp(0, value.shape[dim] - 1)
    first = places.floor().long()
    second = (first + 1).clamp(max=value.shape[dim] - 1)
    share = (places - first).to(value.dtype).view(-1, *[1] * (value.dim() - 1 - dim))
    return torch.lerp(value.index_select(dim, first), value.index_select(dim, second), share)


_RESIZE_MODES = ('bilinear', 'bicubic', 'nearest', 'nearest-exact', 'area')

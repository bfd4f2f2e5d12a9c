"""Bringing two features to one rank and one size."""

from __future__ import annotations

from collections.abc import Sequence

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
    student: Tensor, teacher: Tensor, resize: str = 'student', mode: str = 'bilinear'
) -> tuple[Tensor, Tensor]:
    """Bring two maps to one height and width; vectors, tokens and maps of equal size come back as they are.

    Args:
        student: ``(N, C, H, W)``; gradients flow through the resizing.
        teacher: ``(N, C', H', W')``.
        resize: Which of the two to resize to the other's size, ``'student'`` or ``'teacher'``.
        mode: As :func:`torch.nn.functional.interpolate` (corners not aligned). ``'area'`` averages when shrinking by
            much, where ``'bilinear'`` skips pixels.

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
    if student.ndim != 4 or teacher.ndim != 4 or student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    align_corners = False if mode in ('bilinear', 'bicubic') else None
    if resize == 'student':
        return F.interpolate(student, teacher.shape[2:], mode=mode, align_corners=align_corners), teacher
    return student, F.interpolate(teacher, student.shape[2:], mode=mode, align_corners=align_corners)


_RESIZE_MODES = ('bilinear', 'bicubic', 'nearest', 'nearest-exact', 'area')

"""Depth whose scale and shift are not known (Ranftl et al., "Towards Robust Monocular Depth Estimation", TPAMI 2022).

Models that were trained on mixed data give inverse depth up to a scale and a shift. A student learns from them what does not
depend on either: maps are normalised first, or one is aligned to the other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kddense.losses._checks import check_choice, check_positive, check_same_shape, full_precision
from kddense.registry import MODELS

ALIGNMENTS = ('robust', 'least_squares')
MODES = ('code', 'paper')
TRIMS = dict(robust=0.2, least_squares=0.0)  # MiDaS's


def normalised_depth(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Bring each map to median 0 and mean absolute value 1 over its valid pixels.

    The median of an even count is the mean of its two middle values, as numpy takes it (PyTorch takes the lower one).

    Args:
        values: Depth or inverse depth, shape ``(N, 1, H, W)``, floating.
        valid: Which pixels count, boolean, same shape.

    Returns:
        The normalised maps, 0 where not valid; and which of them have a scale, boolean, ``(N,)``: two valid pixels that
        differ. The others are 0.
    """
    flat, kept = values.flatten(1), valid.flatten(1)
    count = kept.sum(1, keepdim=True)
    some = count.clamp(min=1)
    ordered = torch.where(kept, flat, flat.new_tensor(torch.inf)).sort(1).values
    middle = [ordered.gather(1, place) for place in ((some - 1) // 2, some // 2)]
    median = torch.where(count > 0, (middle[0] + middle[1]) / 2, 0)
    centred = torch.where(kept, flat - median, 0)
    scale = centred.abs().sum(1, keepdim=True) / some
    has_scale = scale > torch.finfo(flat.dtype).tiny
    normalised = torch.where(has_scale, centred / torch.where(has_scale, scale, 1), 0 * centred)
    return normalised.view_as(values), has_scale[:, 0]


def aligned_depth(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Return ``a · student + b`` with the a and b of each map that bring it closest to the teacher in squares.

    Gradients flow through a and b too. A student's map without a slope to the teacher's becomes its mean.

    Args:
        student: Shape ``(N, 1, H, W)``, floating.
        teacher: Same shape.
        valid: Which pixels count, boolean, same shape.

    Returns:
        As ``student``.
    """
    kept = valid.flatten(1).to(student.dtype)
    count = kept.sum(1, keepdim=True).clamp(min=1)
    own, other = (torch.where(valid, one, 0).flatten(1) for one in (student, teacher))
    means = [one.sum(1, keepdim=True) / count for one in (own, other)]
    own, other = ((one - mean) * kept for one, mean in zip((own, other), means, strict=True))
    variance = own.square().sum(1, keepdim=True)
    varies = variance > torch.finfo(own.dtype).tiny
    slope = torch.where(varies, (own * other).sum(1, keepdim=True) / torch.where(varies, variance, 1), 0)
    return (slope * own + means[1]).view_as(student)


def scale_shift_invariant_distance(
    student: Tensor,
    teacher: Tensor,
    valid: Tensor | None = None,
    align: str = 'robust',
    trim: float | None = None,
) -> Tensor:
    """Distance of two depth maps that does not depend on either's scale and shift.

    ``1 / 2M · Σ |ŝ - t̂|`` over the M valid pixels of a map, with both normalised by :func:`normalised_depth`
    (``'robust'``); or ``1 / 2M · Σ (a s + b - t̂)²`` with the best a and b (``'least_squares'``). Of the latter the teacher
    is normalised here too, so that a weight means the same for any teacher; the authors' code leaves it as it is.

    The sum leaves out the pixels of each map that differ most, M stays the number of all: of the robust form a fifth, which
    made the paper's best numbers. The loss that its authors released means to leave out a fifth of the whole batch; copies
    of it slice the pair that a sort returns instead of its values, and leave out none.

    Args:
        student: Shape ``(N, 1, H, W)``, of any floating dtype; computed in float32, or in float64 if either input is. In the
            teacher's space: most relative teachers give inverse depth.
        teacher: Same shape. No gradient flows into it.
        valid: Which pixels count, boolean, same shape; all by default.
        align: ``'robust'`` or ``'least_squares'``.
        trim: Share of the valid pixels that is left out; by default 0.2 of the robust form, 0 of the other.

    Returns:
        A scalar, averaged over the maps whose teacher has a scale; a 0 that back-propagates if there is none.

    Raises:
        ValueError: If the shapes do not fit, ``align`` is unknown or ``trim`` is not in 0..1, 1 excluded.

    Example:
        >>> student, teacher = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 3.0, 2.0, 4.0])
        >>> scale_shift_invariant_distance(student.view(1, 1, 2, 2), teacher.view(1, 1, 2, 2), trim=0)
        tensor(0.2500)
        >>> scale_shift_invariant_distance(student.view(1, 1, 2, 2), teacher.view(1, 1, 2, 2))  # 3 of 4 pixels
        tensor(0.1250)
    """
    check_choice('align', align, ALIGNMENTS)
    trim = _checked_trim(trim, align)
    student, target, valid, counts = _prepared(student, teacher, valid)
    if align == 'robust':
        own = normalised_depth(student, valid)[0]
        difference = (own - target).abs()
    else:
        difference = (aligned_depth(student, target, valid) - target).square()
    pixels = valid.flatten(1).sum(1)
    total = _sum_of_least(difference.flatten(1), valid.flatten(1), ((1 - trim) * pixels.double() + 1e-6).long())
    return _mean_of(total / (2 * pixels.clamp(min=1)), counts)


def depth_gradient_distance(
    student: Tensor,
    teacher: Tensor,
    valid: Tensor | None = None,
    align: str = 'robust',
    scales: int = 4,
    mode: str = 'code',
) -> Tensor:
    """Absolute slopes of the difference of two maps whose scale and shift do not count, over several resolutions.

    ``Σ_k 1 / M_k · Σ (|∂x R_k| + |∂y R_k|)`` with ``R = ŝ - t̂``; each resolution takes every second pixel of the one before.
    Slopes are taken between two valid pixels alone. Edges of depth stand where the teacher has them then.

    Args:
        student: See :func:`scale_shift_invariant_distance`.
        teacher: See there.
        valid: See there.
        align: See there.
        scales: How many resolutions, K; 4 in the paper.
        mode: ``'code'``: each resolution is divided by its own number of valid pixels, as the authors do. ``'paper'``: all
            are by that of the whole map, so that coarse ones count for little.

    Returns:
        A scalar, averaged over the maps whose teacher has a scale; a 0 that back-propagates if there is none.

    Raises:
        ValueError: If the shapes do not fit, ``scales`` is not above 0, or ``align`` or ``mode`` is unknown.
    """
    check_choice('align', align, ALIGNMENTS)
    check_choice('mode', mode, MODES)
    check_positive('scales', scales)
    student, target, valid, counts = _prepared(student, teacher, valid)
    own = normalised_depth(student, valid)[0] if align == 'robust' else aligned_depth(student, target, valid)
    rest = torch.where(valid, own - target, 0)
    whole = valid.flatten(1).sum(1).clamp(min=1)
    total = rest.new_zeros(len(rest))
    for scale in range(scales):
        part, known = (one[..., :: 2**scale, :: 2**scale] for one in (rest, valid))
        pixels = whole if mode == 'paper' else known.flatten(1).sum(1).clamp(min=1)
        total = total + sum(_slopes(part, known, dim) for dim in (-2, -1)) / pixels
    return _mean_of(total, counts)


def _checked_trim(trim: float | None, align: str) -> float:
    if trim is not None and not 0 <= trim < 1:
        raise ValueError(f'trim must be a share of the pixels, at least 0 and below 1, got {trim}')
    return TRIMS[align] if trim is None else trim


def _sum_of_least(values: Tensor, valid: Tensor, counts: Tensor) -> Tensor:
    """Return the sum of the ``counts`` least valid values of each row."""
    ordered = torch.where(valid, values, torch.inf).sort(1).values
    ranks = torch.arange(values.shape[1], device=values.device)
    return torch.where(ranks < counts[:, None], ordered, 0).sum(1)


def _prepared(student: Tensor, teacher: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the student, the normalised teacher, the valid pixels, and which maps count."""
    check_same_shape(student=student, teacher=teacher)
    if student.ndim != 4 or student.shape[1] != 1:
        raise ValueError(f'student and teacher must be maps of shape (N, 1, H, W), got {tuple(student.shape)}')
    valid = torch.ones_like(student, dtype=torch.bool) if valid is None else valid
    if valid.dtype != torch.bool or valid.shape != student.shape:
        raise ValueError(f'valid must be boolean, of shape {tuple(student.shape)}, got {tuple(valid.shape)}')
    student, teacher = full_precision(student, teacher.detach())
    target, counts = normalised_depth(teacher, valid)
    return student, target, valid, counts


def _slopes(values: Tensor, valid: Tensor, dim: int) -> Tensor:
    length = values.shape[dim] - 1
    pairs = [(one.narrow(dim, 0, max(length, 0)), one.narrow(dim, 1, max(length, 0))) for one in (values, valid)]
    (first, second), (known, other) = pairs
    return torch.where(known & other, second - first, 0).abs().flatten(1).sum(1)


def _mean_of(per_map: Tensor, counts: Tensor) -> Tensor:
    return torch.where(counts, per_map, 0 * per_map).sum() / counts.sum().clamp(min=1)


@MODELS.register_module()
class ScaleShiftInvariantLoss(nn.Module):
    """:func:`scale_shift_invariant_distance` of two maps, averaged over images.

    Args:
        align: ``'robust'`` or ``'least_squares'``.
        trim: Share of the pixels of each image, those that differ most, that is left out; by default 0.2 of the robust
            form, 0 of the other.

    Raises:
        ValueError: If ``align`` is unknown or ``trim`` is not in 0..1, 1 excluded.
    """

    def __init__(self, align: str = 'robust', trim: float | None = None) -> None:
        super().__init__()
        check_choice('align', align, ALIGNMENTS)
        self.align = align
        self.trim = _checked_trim(trim, align)

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar."""
        return scale_shift_invariant_distance(student, teacher, valid, self.align, self.trim)

    def extra_repr(self) -> str:
        return f'align={self.align!r}, trim={self.trim}'


@MODELS.register_module()
class DepthGradientLoss(nn.Module):
    """:func:`depth_gradient_distance` of two maps, averaged over images.

    Args:
        align: ``'robust'`` or ``'least_squares'``.
        scales: How many resolutions.
        mode: ``'code'`` or ``'paper'``.

    Raises:
        ValueError: If an argument is none of these.
    """

    def __init__(self, align: str = 'robust', scales: int = 4, mode: str = 'code') -> None:
        super().__init__()
        check_choice('align', align, ALIGNMENTS)
        check_choice('mode', mode, MODES)
        check_positive('scales', scales)
        self.align, self.scales, self.mode = align, scales, mode

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar."""
        return depth_gradient_distance(student, teacher, valid, self.align, self.scales, self.mode)

    def extra_repr(self) -> str:
        return f'align={self.align!r}, scales={self.scales}, mode={self.mode!r}'

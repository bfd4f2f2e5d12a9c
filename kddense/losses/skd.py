"""Structured distillation (Liu et al., "Structured Knowledge Distillation for Dense Prediction", arXiv:1903.04197).

The pixel-wise term (section 3.2.1, ``L_pi``) and the pair-wise one (section 3.2.2, ``L_pa``); for the holistic term see
:mod:`kddense.losses.adversarial`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kddense.losses._checks import check_choice, check_positive, check_same_shape, full_precision, mean_over
from kddense.losses._softmax_divergence import softmax_divergence
from kddense.registry import MODELS

DIRECTIONS = ('student_teacher', 'teacher_student')
CHUNK = 4096  # nodes that are held in float64 at a time
BLOCK = 2**21  # affinities that are held in float64 at a time
CANCELLED = 1e-9  # below this share of its terms, a difference of squared sums has lost too many digits


def pixel_wise_divergence(
    student: Tensor,
    teacher: Tensor,
    mode: str = 'paper',
    direction: str = 'teacher_student',
    temperature: float = 1.0,
    mask: Tensor | None = None,
    classes: str = 'softmax',
) -> Tensor:
    """Divergence of the class probabilities, pixel by pixel.

    ``mode='paper'``: ``τ² · mean over pixels of KL(teacher ‖ student)``, without temperature in the paper. The paper's text
    has ``KL(student ‖ teacher)``; every released code that made published numbers has the other, which is the default
    therefore, and ``direction='student_teacher'`` is the text's.
    ``mode='code'``, what the authors released: the cross-entropy with the teacher's probabilities, which is
    ``KL(teacher ‖ student)`` plus the teacher's own entropy, summed over the images of the batch and averaged over the
    positions of one: it grows with the batch. With a mask, it is averaged over the kept positions of an image.

    Args:
        student: Logits, shape ``(N, K, H, W)``, of any floating dtype; computed in float32, or in float64 if either is.
        teacher: Logits of the same shape. No gradient flows into it.
        mode: ``'paper'`` or ``'code'``.
        direction: ``'teacher_student'`` for ``KL(teacher ‖ student)``, ``'student_teacher'`` for the other.
        temperature: Above 0; 1 in the paper.
        mask: True where a pixel counts, boolean, shape ``(N, H, W)``. All count without it, as in the paper.
        classes: ``'softmax'``, or ``'sigmoid'`` for heads that decide each class on its own: then summed over classes.

    Returns:
        A scalar; if no pixel counts, a 0 that back-propagates.

    Raises:
        ValueError: If a shape or an option does not fit.

    Example:
        >>> teacher = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1)
        >>> student = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
        >>> pixel_wise_divergence(student, teacher)
        tensor(0.0671)
    """
    _check_pixel_options(mode, direction, temperature, classes)
    check_same_shape(student=student, teacher=teacher)
    if student.ndim != 4:
        raise ValueError(f'student and teacher must be logits of shape (N, K, H, W), got {tuple(student.shape)}')
    positions = (len(student), *student.shape[2:])
    if mask is not None and (mask.dtype != torch.bool or tuple(mask.shape) != positions):
        raise ValueError(f'mask must be boolean, of shape {positions}, got {mask.dtype} of {tuple(mask.shape)}')
    student, teacher = full_precision(student, teacher.detach())
    if temperature != 1:
        student, teacher = student / temperature, teacher / temperature
    diverge = _sigmoid_divergence if classes == 'sigmoid' else _softmax_per_pixel
    per_pixel = diverge(student, teacher, direction == 'student_teacher')
    if mode == 'code':
        per_pixel = per_pixel + _entropy(teacher, classes)
    mean = mean_over(per_pixel, mask)
    return temperature**2 * mean * (len(student) if mode == 'code' else 1)


def _check_pixel_options(mode: str, direction: str, temperature: float, classes: str) -> None:
    check_choice('mode', mode, ('paper', 'code'))
    check_choice('classes', classes, ('softmax', 'sigmoid'))
    check_positive('temperature', temperature)
    check_choice('direction', direction, DIRECTIONS)
    if mode == 'code' and direction == 'student_teacher':
        raise ValueError("direction must be 'teacher_student' in mode 'code', which is a cross-entropy")


def _softmax_per_pixel(student: Tensor, teacher: Tensor, student_first: bool) -> Tensor:
    return softmax_divergence(student, teacher, dim=1, student_first=student_first)


def _sigmoid_divergence(student: Tensor, teacher: Tensor, student_first: bool) -> Tensor:
    first, second = (student, teacher) if student_first else (teacher, student)
    yes = first.sigmoid() * (F.logsigmoid(first) - F.logsigmoid(second))
    no = (-first).sigmoid() * (F.logsigmoid(-first) - F.logsigmoid(-second))
    return (yes + no).sum(1)


def _entropy(logits: Tensor, classes: str) -> Tensor:
    if classes == 'sigmoid':
        return F.binary_cross_entropy_with_logits(logits, logits.sigmoid(), reduction='none').sum(1)
    logarithm = logits.log_softmax(1)
    return -(logarithm.exp().mul_(logarithm)).sum(1)


@MODELS.register_module()
class PixelWiseLoss(nn.Module):
    """:func:`pixel_wise_divergence` with its options, averaged over pixels.

    Args:
        mode: ``'paper'`` or ``'code'``.
        direction: ``'teacher_student'`` or ``'student_teacher'``.
        temperature: Above 0.
        classes: ``'softmax'`` or ``'sigmoid'``.

    Raises:
        ValueError: If an option does not fit.
    """

    compares_classes = True

    def __init__(
        self,
        mode: str = 'paper',
        direction: str = 'teacher_student',
        temperature: float = 1.0,
        classes: str = 'softmax',
    ) -> None:
        super().__init__()
        _check_pixel_options(mode, direction, temperature, classes)
        self.mode = mode
        self.direction = direction
        self.temperature = temperature
        self.classes = classes

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; ``mask`` is True where a pixel counts."""
        return pixel_wise_divergence(student, teacher, self.mode, self.direction, self.temperature, mask, self.classes)

    def extra_repr(self) -> str:
        return f'mode={self.mode!r}, direction={self.direction!r}, temperature={self.temperature}, classes={self.classes!r}'


def pair_wise_similarity(
    student: Tensor,
    teacher: Tensor,
    granularity: tuple[int, int] = (2, 2),
    pool: str = 'average',
    pool_scale: float | None = None,
    connections: int | None = None,
    detach_norm: bool = False,
) -> Tensor:
    """Squared difference of how alike any two places are, in the student's feature and in the teacher's.

    The map is pooled into nodes; ``a_ij`` is the cosine of the features of nodes i and j. The loss is
    ``mean over images of 1 / (nodes · α) · Σ_i Σ_j in α nodes near i (a_ij^s - a_ij^t)²``, which is the paper's
    ``β / (W'H'α)``, and its ``1 / (W'H')²`` where all are connected and nothing is pooled. Channels may differ.

    Of all pairs, the matrix of affinities is not built where that is dearer than products of channels: with features as
    rows, ``‖SSᵀ - TTᵀ‖² = ‖SᵀS‖² - 2‖SᵀT‖² + ‖TᵀT‖²``. What such differences cancel is computed in float64 and, with as many
    channels on either side, from S - T and S + T.

    The released code (``pool='max', pool_scale=0.5, detach_norm=True``) has about 2x2 nodes, and takes the norms, to which
    it adds 1e-8, for constants.

    Args:
        student: Features, shape ``(N, C, H, W)``, of any floating dtype.
        teacher: The teacher's, shape ``(N, C', H, W)``. No gradient flows into it.
        granularity: The paper's β: height and width of a node in pixels. At the right and lower edge a node may be
            smaller; it is the mean of the pixels that it has.
        pool: ``'average'`` or ``'max'``.
        pool_scale: Height and width of a node relative to the map, rounded down to pixels, instead of ``granularity``.
        connections: The paper's α: the number of nodes, those nearest by Chebyshev distance, that each node is compared
            with, itself included; 9 is a window of 3x3 nodes, but at an edge, where further ones make up for those
            that are not there. ``None`` connects all.
        detach_norm: Whether the gradient leaves the norms alone.

    Returns:
        A scalar, in float32, or float64 if either input is.

    Raises:
        ValueError: If a shape or an option does not fit the map.

    Example:
        >>> teacher = torch.eye(4).view(1, 4, 2, 2)  # no two places are alike
        >>> student = torch.ones(1, 3, 2, 2)  # all are
        >>> pair_wise_similarity(student, teacher, granularity=(1, 1))
        tensor(0.7500)
    """
    _check_pair_options(granularity, pool, pool_scale, connections)
    if student.ndim != 4 or teacher.ndim != 4 or student[:, :1].shape != teacher[:, :1].shape:
        raise ValueError(
            'student and teacher must be maps (N, C, H, W) that differ in C only, got '
            f'{tuple(student.shape)} and {tuple(teacher.shape)}'
        )
    student, teacher = full_precision(student, teacher.detach())
    student, teacher = (_nodes(maps, granularity, pool, pool_scale) for maps in (student, teacher))
    height, width = student.shape[-2:]
    nodes = height * width
    if connections is not None and connections > nodes:
        raise ValueError(
            f'connections is {connections}, but the map has only {height}x{width} nodes: lower it, use larger crops, or '
            'leave it out to connect all'
        )
    student, teacher = student.flatten(2), teacher.flatten(2)
    if connections is None or connections == nodes:
        return _AllPairs.apply(student, teacher, detach_norm).mean() / nodes**2
    nearest = _nearest(height, width, connections).to(student.device)
    return _NearPairs.apply(student, teacher, nearest, detach_norm).mean() / (nodes * connections)


def _check_pair_options(
    granularity: tuple[int, int], pool: str, pool_scale: float | None, connections: int | None
) -> None:
    check_choice('pool', pool, ('average', 'max'))
    if len(granularity) != 2 or min(granularity) < 1:
        raise ValueError(f'granularity must be a height and a width of at least 1 pixel, got {granularity}')
    if pool_scale is not None and not 0 < pool_scale <= 1:
        raise ValueError(f'pool_scale must lie in (0, 1], got {pool_scale}')
    if connections is not None and connections < 1:
        raise ValueError(f'connections must be at least 1, got {connections}')


def _nodes(maps: Tensor, granularity: tuple[int, int], pool: str, pool_scale: float | None) -> Tensor:
    size = maps.shape[-2:]
    if pool_scale is not None:
        granularity = (int(pool_scale * size[0]), int(pool_scale * size[1]))
    if min(granularity) < 1 or granularity[0] > size[0] or granularity[1] > size[1]:
        what = 'granularity' if pool_scale is None else f'pool_scale {pool_scale}, that is a granularity of'
        raise ValueError(
            f'{what} {tuple(granularity)} does not fit a map of {tuple(size)}: change it, or use larger crops'
        )
    if tuple(granularity) == (1, 1):
        return maps
    reduce = F.avg_pool2d if pool == 'average' else F.max_pool2d
    return reduce(maps, tuple(granularity), ceil_mode=True)


class _AllPairs(torch.autograd.Function):
    """Sum of squared differences of the affinities of all pairs of nodes, for each image.

    Takes ``(N, C, nodes)``; the gradient is computed along with the value, in chunks of nodes in float64.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, detach_norm: bool) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(student) if wanted else None
        sums = [
            _all_pairs(own, other, detach_norm, None if gradient is None else gradient[image])
            for image, (own, other) in enumerate(zip(student, teacher, strict=True))
        ]
        ctx.save_for_backward(gradient)
        return torch.stack(sums).to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[:, None, None], None, None


def _all_pairs(student: Tensor, teacher: Tensor, detach_norm: bool, gradient: Tensor | None) -> Tensor:
    """Return the sum for one image, ``(C, nodes)``, and write its gradient."""
    own, other, nodes = len(student), len(teacher), student.shape[1]
    if nodes * (own + other) < own**2 + own * other + other**2:
        return _by_rows(student, teacher, detach_norm, gradient)
    if own == other:
        return _by_difference(student, teacher, detach_norm, gradient)
    return _by_products(student, teacher, detach_norm, gradient)


def _by_difference(student: Tensor, teacher: Tensor, detach_norm: bool, gradient: Tensor | None) -> Tensor:
    """With D = S - T and P = S + T, ``SSᵀ - TTᵀ = (DPᵀ + PDᵀ) / 2``: nothing that is left has cancelled."""
    channels = len(student)
    dd, pp, pd = (student.new_zeros(channels, channels, dtype=torch.float64) for _ in range(3))
    for _, s, t, _ in _unit_chunks(student, teacher, detach_norm):
        d, p = s - t, s + t
        dd.addmm_(d, d.T)
        pp.addmm_(p, p.T)
        pd.addmm_(p, d.T)
    if gradient is not None:
        sp, sd = pp + pd.T, pd + dd  # twice S'P and S'D
        _write_gradient(gradient, student, teacher, detach_norm, lambda s, t: sp @ (s - t) + sd @ (s + t))
    return (dd.mul(pp).sum() + pd.mul(pd.T).sum()) / 2


def _by_products(student: Tensor, teacher: Tensor, detach_norm: bool, gradient: Tensor | None) -> Tensor:
    own, other = len(student), len(teacher)
    ss, st, tt = (student.new_zeros(*size, dtype=torch.float64) for size in ((own, own), (own, other), (other, other)))
    for _, s, t, _ in _unit_chunks(student, teacher, detach_norm):
        ss.addmm_(s, s.T)
        st.addmm_(s, t.T)
        tt.addmm_(t, t.T)
    terms = [product.square().sum() for product in (ss, st, tt)]
    total = terms[0] - 2 * terms[1] + terms[2]
    if total < CANCELLED * (terms[0] + terms[2]):
        return _by_rows(student, teacher, detach_norm, gradient)
    if gradient is not None:
        _write_gradient(gradient, student, teacher, detach_norm, lambda s, t: 4 * (ss @ s - st @ t))
    return total


def _by_rows(student: Tensor, teacher: Tensor, detach_norm: bool, gradient: Tensor | None) -> Tensor:
    """Build the affinities, some rows at a time."""
    (_, s, t, inverse) = next(_unit_chunks(student, teacher, detach_norm, chunk=student.shape[1]))
    rows = max(BLOCK // max(student.shape[1], 1), 1)
    total = s.new_zeros(())
    slopes = torch.empty_like(s) if gradient is not None else None
    for start in range(0, s.shape[1], rows):
        part = slice(start, start + rows)
        difference = s[:, part].T @ s - t[:, part].T @ t
        total += difference.square().sum()
        if slopes is not None:
            slopes[:, part] = 4 * (s @ difference.T)
    if gradient is not None and slopes is not None:
        gradient.copy_(_through_norm(slopes, s, inverse, detach_norm))
    return total


def _write_gradient(
    gradient: Tensor, student: Tensor, teacher: Tensor, detach_norm: bool, slope: Callable[[Tensor, Tensor], Tensor]
) -> None:
    for part, s, t, inverse in _unit_chunks(student, teacher, detach_norm):
        gradient[:, part] = _through_norm(slope(s, t), s, inverse, detach_norm).to(gradient.dtype)


def _unit_chunks(
    student: Tensor, teacher: Tensor, detach_norm: bool, chunk: int = CHUNK
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Yield chunks of nodes with features of length 1 in float64, and what the student's were multiplied with."""
    for start in range(0, student.shape[1], max(chunk, 1)):
        part = slice(start, start + chunk)
        (s, inverse), (t, _) = (_unit(side[:, part], 0, detach_norm) for side in (student, teacher))
        yield part, s, t, inverse


def _unit(features: Tensor, dim: int, detach_norm: bool) -> tuple[Tensor, Tensor]:
    features = features.double()
    norm = features.norm(dim=dim, keepdim=True)
    if detach_norm:
        inverse = 1 / (norm + 1e-8)
    else:
        inverse = torch.where(norm > 0, 1 / norm.clamp(min=torch.finfo(norm.dtype).tiny), 0)
    return features * inverse, inverse


def _through_norm(slope: Tensor, unit: Tensor, inverse: Tensor, detach_norm: bool, dim: int = 0) -> Tensor:
    """Turn the gradient of features of length 1 into that of the features before; 0 where a feature is 0."""
    if detach_norm:
        return slope * inverse
    return (slope - unit * (unit * slope).sum(dim, keepdim=True)) * inverse


class _NearPairs(torch.autograd.Function):
    """Sum of squared differences of the affinities of each node and those near it, for each image.

    Takes ``(N, C, nodes)`` and which nodes are near each, ``(nodes, α)``; the gradient is computed along with the value.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, nearest: Tensor, detach_norm: bool) -> Tensor:
        (s, inverse), (t, _) = (_unit(maps, 1, detach_norm) for maps in (student, teacher))
        slopes = torch.zeros_like(s) if ctx.needs_input_grad[0] else None
        total = s.new_zeros(len(s))
        for near in nearest.T:
            neighbour = s[:, :, near]
            difference = (s * neighbour).sum(1) - (t * t[:, :, near]).sum(1)
            total += difference.square().sum(1)
            if slopes is not None:
                step = 2 * difference[:, None]
                slopes.addcmul_(step, neighbour)
                slopes.index_add_(2, near, step * s)
        gradient = None if slopes is None else _through_norm(slopes, s, inverse, detach_norm, dim=1).to(student.dtype)
        ctx.save_for_backward(gradient)
        return total.to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[:, None, None], None, None, None


@functools.lru_cache(maxsize=8)
def _nearest(height: int, width: int, connections: int) -> Tensor:
    """Return the nodes nearest each node of a map, itself first, shape ``(nodes, connections)``.

    By Chebyshev distance; of equally distant nodes the Euclidean distance decides, and then the order of the map.
    """
    reach = 0  # how far a corner has to look
    while min(reach + 1, height) * min(reach + 1, width) < connections:
        reach += 1
    steps = torch.arange(-reach, reach + 1)
    down, right = (offsets.flatten() for offsets in torch.meshgrid(steps, steps, indexing='ij'))
    chebyshev, euclidean = torch.maximum(down.abs(), right.abs()), down**2 + right**2
    order = torch.argsort(chebyshev * (4 * reach**2 + 1) + euclidean, stable=True)
    rows = torch.arange(height).repeat_interleave(width)[:, None] + down[order]
    columns = torch.arange(width).repeat(height)[:, None] + right[order]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    kept = inside & (inside.cumsum(1) <= connections)
    return (rows * width + columns)[kept].view(height * width, connections)


@MODELS.register_module()
class PairWiseLoss(nn.Module):
    """:func:`pair_wise_similarity` with its options, averaged over pairs of nodes and images.

    Args:
        granularity: The paper's β, height and width of a node in pixels.
        pool: ``'average'`` or ``'max'``.
        pool_scale: Height and width of a node relative to the map, instead of ``granularity``.
        connections: The paper's α; ``None`` connects all.
        detach_norm: Whether the gradient leaves the norms alone.

    Raises:
        ValueError: If an option does not fit.
    """

    def __init__(
        self,
        granularity: tuple[int, int] = (2, 2),
        pool: str = 'average',
        pool_scale: float | None = None,
        connections: int | None = None,
        detach_norm: bool = False,
    ) -> None:
        super().__init__()
        _check_pair_options(granularity, pool, pool_scale, connections)
        self.granularity = granularity
        self.pool = pool
        self.pool_scale = pool_scale
        self.connections = connections
        self.detach_norm = detach_norm

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        granularity: tuple[int, int] | None = None,
        connections: int | None = None,
    ) -> Tensor:
        """Return the loss, a scalar; ``granularity`` and ``connections`` of this map take the place of the module's own."""
        return pair_wise_similarity(
            student,
            teacher,
            granularity or self.granularity,
            self.pool,
            self.pool_scale,
            connections or self.connections,
            self.detach_norm,
        )

    def extra_repr(self) -> str:
        return (
            f'granularity={self.granularity}, pool={self.pool!r}, pool_scale={self.pool_scale}, '
            f'connections={self.connections}, detach_norm={self.detach_norm}'
        )

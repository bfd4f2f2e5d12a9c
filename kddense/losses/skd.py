"""Structured distillation (Liu et al., "Structured Knowledge Distillation for Dense Prediction", arXiv:1903.04197).

The pixel-wise term (section 3.2.1, ``L_pi``) and the pair-wise one (section 3.2.2, ``L_pa``); for the holistic term see
:mod:`kddense.losses.adversarial`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._checks import check_choice, check_positive, check_same_shape, full_precision, mean_over
from kddense.losses._pair_wise import nearest_nodes, sum_over_all_pairs, sum_over_near_pairs
from kddense.losses._softmax_divergence import finite_logits, softmax_divergence
from kddense.losses.logit_std import check_standardize, standardize_logits
from kddense.registry import MODELS

DIRECTIONS = ('student_teacher', 'teacher_student')


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
    if classes == 'sigmoid':
        teacher = finite_logits(teacher)
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
    return torch.special.entr(logits.softmax(1)).sum(1)


@MODELS.register_module()
class PixelWiseLoss(nn.Module):
    """:func:`pixel_wise_divergence` with its options, averaged over pixels.

    Args:
        mode: ``'paper'`` or ``'code'``.
        direction: ``'teacher_student'`` or ``'student_teacher'``.
        temperature: Above 0.
        classes: ``'softmax'`` or ``'sigmoid'``.
        standardize: Logit standardisation (Sun et al. 2024): before the softmax, both networks' logits are brought to mean 0
            and standard deviation 1 over classes; see :func:`kddense.losses.standardize_logits`. Its paper has the
            temperature 2.

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
        standardize: bool = False,
    ) -> None:
        super().__init__()
        _check_pixel_options(mode, direction, temperature, classes)
        check_standardize(standardize, classes)
        self.mode = mode
        self.direction = direction
        self.temperature = temperature
        self.classes = classes
        self.standardize = standardize

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; ``mask`` is True where a pixel counts."""
        check_standardize(self.standardize, self.classes)
        if self.standardize:
            student, teacher = standardize_logits(student), standardize_logits(teacher.detach())
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
    """Mean squared difference of the student's and the teacher's cosine similarities between positions of a feature map.

    The map is pooled into nodes; ``a_ij`` is the cosine of the features of nodes i and j. The loss is
    ``mean over images of 1 / (nodes · α) · Σ_i Σ_j in α nodes near i (a_ij^s - a_ij^t)²``, which is the paper's
    ``β / (W'H'α)``, and its ``1 / (W'H')²`` where all are connected and nothing is pooled. Channels may differ.

    The released code (``pool='max', pool_scale=0.5, detach_norm=True``) has about 2x2 nodes, and takes the norms, to which
    it adds 1e-8, for constants.

    Args:
        student: Features, shape ``(N, C, H, W)``, of any floating dtype.
        teacher: The teacher's, shape ``(N, C', H, W)``. No gradient flows into it.
        granularity: The paper's β: height and width of a node in positions of the map. At the right and lower edge a node
            may be smaller; it is the mean of the positions that it has.
        pool: ``'average'`` or ``'max'``.
        pool_scale: Height and width of a node relative to the map, rounded down to positions, instead of ``granularity``.
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
        return mean_over(sum_over_all_pairs(student, teacher, detach_norm), None) / nodes**2
    near = nearest_nodes(height, width, connections).to(student.device)
    return mean_over(sum_over_near_pairs(student, teacher, near, detach_norm), None) / (nodes * connections)


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


@MODELS.register_module()
class PairWiseLoss(nn.Module):
    """:func:`pair_wise_similarity` with its options, averaged over pairs of nodes and images.

    Args:
        granularity: The paper's β, height and width of a node in positions of the map.
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

"""Liu et al., Structured Knowledge Distillation for Dense Prediction, TPAMI 2020 (CVPR 2019): three objectives.

For segmentors, for depth estimators, and with ``on='bbox_head'`` for the dense heads of one-stage detectors, which the
paper tells of with FCOS. It does not say how it treats the levels of a pyramid there: here each is compared on its own, and
the losses are averaged over the levels.

``L = L_task + λ1 (L_pi + L_pa) + λ2 L_ho``, with λ1 = 10 and λ2 = 0.1. Each takes ``mode='code'`` for what the authors'
released code does instead of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from kddense.connectors import match_size
from kddense.exchange import Answer, DepthOpinion, MapOpinion, MapSample, Shown
from kddense.losses import PairWiseLoss, PixelWiseLoss
from kddense.losses.adversarial import (
    adversarial_loss,
    gradient_penalty,
    hinge_discriminator_loss,
    wasserstein_discriminator_loss,
)
from kddense.models import Discriminator
from kddense.registry import MODELS
from kddense.views import ModelView, check_depth_scale

from .heads import HeadObjective

MODES = ('paper', 'code')


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"mode must be 'paper' or 'code', got {mode!r}")


@MODELS.register_module()
class PixelWiseObjective(HeadObjective):
    """Pixel-wise distillation (section 3.2.1): the class probabilities of every pixel, one by one.

    On depth estimators that classify into bins, the probabilities of the bins; the paper found no gain from it there. On
    dense heads, the score maps of the levels: each class a yes or no of its own, summed over classes and anchors, averaged
    over the positions of a level.

    Args:
        mode: ``'paper'``: KL(student ‖ teacher), averaged over pixels. ``'code'``: cross-entropy with the teacher's
            probabilities, summed over the images of a batch and averaged over the positions.
        direction: ``'student_teacher'`` or ``'teacher_student'``; by default that of ``mode``.
        temperature: Softens both; the paper has none.
        ignore_unlabelled_pixels: Leave out pixels whose label is the ignore index. Padding that the preprocessor adds
            bears that label too. The paper compares all.
        classes: ``'softmax'`` or ``'sigmoid'``; by default what the student's own loss says.
        weight: The paper's λ1.
        **kwargs: See :class:`HeadObjective`.
    """

    def __init__(
        self,
        mode: str = 'paper',
        direction: str | None = None,
        temperature: float = 1.0,
        ignore_unlabelled_pixels: bool = False,
        classes: str | None = None,
        weight: float | Mapping[str, Any] = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, **kwargs)
        self.loss = PixelWiseLoss(mode=mode, direction=direction, temperature=temperature, classes=classes or 'softmax')
        self.classes = classes
        self.ignore_unlabelled_pixels = ignore_unlabelled_pixels
        self.on_bins = False

    @property
    def compares_classes(self) -> bool:
        return not self.on_bins

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        self.on_bins = _either_is_depth(student, teacher)
        if self.on_bins:
            check_depth_scale(student, teacher, bins=True)
        super().bind(student, teacher)
        self.loss.classes = self.classes or _kind_of_classes(student, self.kind)

    def judge(self, index: int, sample: MapSample, own: MapOpinion, other: MapOpinion) -> Tensor:
        student, teacher = match_size(own.logits, other.logits, self.resize)
        mask = sample.valid_at(student.shape[-2:]) if self.ignore_unlabelled_pixels else None
        return self.loss(student, teacher, mask)


@MODELS.register_module()
class PairWiseObjective(HeadObjective):
    """Pair-wise distillation (section 3.2.2): how alike the features of any two places are, before the classifier.

    Needs no connector, and no common classes. On dense heads, of the levels of the pyramid: where a level has no room for
    one place of ``granularity``, or has fewer places than ``connections``, it takes what it has.

    Args:
        mode: ``'paper'``: places are averages of β pixels. ``'code'``: the greatest value of each half of the map
            (``pool='max', pool_scale=0.5``), and the gradient leaves the norms alone (``detach_norm=True``). The
            code's own script weights it with 0.5.
        granularity: The paper's β, height and width in pixels of the map; ``(2, 2)`` worked best there.
        pool: ``'average'`` or ``'max'``; by default that of ``mode``.
        pool_scale: Height and width of a place relative to the map, instead of ``granularity``.
        connections: The paper's α, the number of nearest places that each one is compared with; all of them by default.
        detach_norm: Whether the gradient leaves the norms alone; by default as ``mode`` says.
        max_nodes: With more places than so many, both lengths of ``granularity`` are multiplied by the least whole number
            that leaves no more, for each map on its own.
        weight: The paper's λ1.
        **kwargs: See :class:`HeadObjective`.
    """

    def __init__(
        self,
        mode: str = 'paper',
        granularity: tuple[int, int] = (2, 2),
        pool: str | None = None,
        pool_scale: float | None = None,
        connections: int | None = None,
        detach_norm: bool | None = None,
        max_nodes: int | None = None,
        weight: float | Mapping[str, Any] = 10.0,
        **kwargs: Any,
    ) -> None:
        _check_mode(mode)
        super().__init__(weight=weight, **kwargs)
        as_code = mode == 'code'
        if max_nodes is not None and max_nodes < 1:
            raise ValueError(f'max_nodes must be at least 1, got {max_nodes}')
        if max_nodes is not None and (as_code or pool_scale is not None):
            raise ValueError('max_nodes and pool_scale both say how large a place is: give one of them')
        self.max_nodes = max_nodes
        self.loss = PairWiseLoss(
            granularity=(granularity[0], granularity[1]),
            pool=pool or ('max' if as_code else 'average'),
            pool_scale=0.5 if as_code and pool_scale is None else pool_scale,
            connections=connections,
            detach_norm=as_code if detach_norm is None else detach_norm,
        )

    def judge(self, index: int, sample: MapSample, own: MapOpinion, other: MapOpinion) -> Tensor:
        student, teacher = match_size(own.feature, other.feature, self.resize)
        height, width = student.shape[-2:]
        granularity = self._granularity(height, width)
        connections = self.loss.connections
        if self.kind == 'scores' and connections is not None:
            connections = min(connections, _nodes(height, width, granularity))
        return self.loss(student, teacher, granularity, connections)

    def shown(self) -> Shown:
        return Shown(pairs=self.kind)

    def _granularity(self, height: int, width: int) -> tuple[int, int]:
        high, wide = self.loss.granularity
        times = 1
        while self.max_nodes is not None and _nodes(height, width, (times * high, times * wide)) > self.max_nodes:
            times += 1
        if self.kind != 'scores' and times == 1:
            return high, wide
        return min(times * high, height), min(times * wide, width)


@MODELS.register_module()
class HolisticObjective(HeadObjective):
    """Holistic distillation (section 3.2.3): a discriminator learns to tell the student's score maps from the teacher's.

    The student's term is ``-mean D(student)`` with the discriminator held fixed; the discriminator's term,
    ``mean D(student) - mean D(teacher) + penalty · GP``, sees the student's maps detached. Their sum, in one backward
    pass, gives each the gradient of alternating updates made from one forward pass. Needs an optimiser for the
    discriminator, see :class:`kddense.JointOptimWrapperConstructor`. Gradient penalties are averaged over images.

    On depth estimators the maps are depths, on a logarithmic scale from 0 at the least depth to 1 at the greatest; the
    paper does not tell its scale. On dense heads one discriminator judges the score maps of all levels; levels below its
    least size, 16 x 16, are left out.

    Args:
        mode: ``'paper'``: the image is a condition, the maps are probabilities. ``'code'`` (the released master branch):
            no condition, logits behind a batch norm, and the discriminator's loss times 0.1.
        conditional: Whether the discriminator sees the image beside the map; by default as ``mode`` says.
        maps: Of segmentors ``'probabilities'`` or ``'logits'``; by default as ``mode`` says.
        loss: ``'wasserstein'`` or ``'hinge'``.
        penalty: Weight of the gradient penalty, λ_gp; 0 leaves it out.
        discriminator: More arguments of :class:`kddense.models.Discriminator`, such as ``dict(channels=32)``.
        weight: The paper's λ2, of the student's term alone.
        **kwargs: See :class:`HeadObjective`.
    """

    trains_adversary = True
    loss_names = ('loss_student', 'loss_discriminator')
    own_losses = frozenset({'loss_discriminator'})

    def __init__(
        self,
        mode: str = 'paper',
        conditional: bool | None = None,
        maps: str | None = None,
        loss: str = 'wasserstein',
        penalty: float = 10.0,
        discriminator: Mapping[str, Any] | None = None,
        weight: float | Mapping[str, Any] = 0.1,
        **kwargs: Any,
    ) -> None:
        _check_mode(mode)
        super().__init__(weight=weight, **kwargs)
        if self.kind == 'auxiliary':
            raise ValueError("on must be 'decode_head' or 'bbox_head': one discriminator cannot judge several heads")
        losses = {'wasserstein': wasserstein_discriminator_loss, 'hinge': hinge_discriminator_loss}
        if loss not in losses:
            raise ValueError(f"loss must be 'wasserstein' or 'hinge', got {loss!r}")
        if maps not in ('probabilities', 'logits', None):
            raise ValueError(f"maps must be 'probabilities' or 'logits', got {maps!r}")
        if not 0 <= penalty < float('inf'):
            raise ValueError(f'penalty must be a number that is at least 0, got {penalty}')
        as_code = mode == 'code'
        self.conditional = not as_code if conditional is None else conditional
        self.maps = maps or ('logits' if as_code else 'probabilities')
        self.on_depth = False
        self.discriminator_weight = 0.1 if as_code else 1.0
        self.penalty = penalty
        self.discriminator_loss = losses[loss]
        self.options = {'input_norm': as_code, **(discriminator or {})}
        self.classes = 'softmax'
        self.condition_channels = 3
        self.discriminator: Any = None

    @property
    def compares_classes(self) -> bool:
        return not self.on_depth

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        self.on_depth = _either_is_depth(student, teacher)
        if self.on_depth:
            check_depth_scale(student, teacher)
        if self.kind in student.kinds:
            self.classes = _kind_of_classes(student, self.kind)
        self.condition_channels = student.image_format.channels or 3
        super().bind(student, teacher)

    def bind_pair(self, own: MapOpinion, other: MapOpinion) -> None:
        super().bind_pair(own, other)
        if self.discriminator is not None:  # the levels of a pyramid share it
            return
        self.discriminator = Discriminator(
            self._read(own).shape[1],
            condition_channels=self.condition_channels if self.conditional else 0,
            **self.options,
        )

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        triples = list(self.triples(seen, taught))
        large = [triple for triple in triples if min(triple[1].logits.shape[-2:]) >= Discriminator.least_size]
        judged = [self._judge(*triple) for triple in large or triples[:1]]  # which says so if it is too small
        return {name: sum((one[name] for one in judged[1:]), judged[0][name]) / len(judged) for name in judged[0]}

    def _judge(self, sample: MapSample, own: MapOpinion, other: MapOpinion) -> dict[str, Tensor]:
        sized = match_size(own.logits, other.logits, self.resize)
        student, teacher = (
            self._read(replace(one, logits=logits)) for one, logits in zip((own, other), sized, strict=True)
        )
        score = partial(self.discriminator, condition=sample.images if self.conditional else None)
        with _held_fixed(self.discriminator):
            adversarial = adversarial_loss(score(student))
        fake, real = score(student.detach()), score(teacher)
        loss = self.discriminator_loss(fake, real)
        if self.penalty > 0:
            loss = loss + self.penalty * gradient_penalty(score, student.detach(), teacher)
        return {
            'loss_student': adversarial,
            'loss_discriminator': self.discriminator_weight * loss,
            'score_student': fake.detach().mean(),
            'score_teacher': real.detach().mean(),
        }

    def _read(self, opinion: MapOpinion) -> Tensor:
        if isinstance(opinion, DepthOpinion):
            return opinion.position
        if self.maps == 'logits':
            return opinion.logits
        return opinion.logits.float().softmax(dim=1) if self.classes == 'softmax' else opinion.logits.float().sigmoid()


def _either_is_depth(student: ModelView, teacher: ModelView) -> bool:
    return student.shows_depth or teacher.shows_depth


def _kind_of_classes(view: ModelView, kind: str) -> str:
    return 'sigmoid' if view.is_sigmoid(kind) else 'softmax'


def _nodes(height: int, width: int, granularity: tuple[int, int]) -> int:
    """Return how many places a map has; one at its edge may be smaller."""
    return math.ceil(height / granularity[0]) * math.ceil(width / granularity[1])


@contextmanager
def _held_fixed(module: nn.Module) -> Iterator[None]:
    """Keep a module's parameters out of the graph for a while: gradients pass through it, not into it."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)

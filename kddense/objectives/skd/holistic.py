"""Holistic distillation (section 3.2.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from kddense.connectors import match_size
from kddense.errors import within
from kddense.exchange import Answer, DepthOpinion, MapOpinion, MapSample
from kddense.losses.adversarial import (
    adversarial_loss,
    gradient_penalty,
    hinge_discriminator_loss,
    wasserstein_discriminator_loss,
)
from kddense.models import Discriminator
from kddense.registry import MODELS
from kddense.views import ModelView, check_depth_scale

from .._shared_numbers import SharedNumbers
from ..heads import HeadObjective
from ._common import check_mode, either_is_depth, kind_of_classes


@MODELS.register_module()
class HolisticObjective(HeadObjective):
    """Holistic distillation (section 3.2.3): a discriminator learns to tell the student's score maps from the teacher's.

    The student's term is ``-mean D(student)`` with the discriminator held fixed; the discriminator's term,
    ``mean D(student) - mean D(teacher) + penalty · GP``, sees the student's maps detached. Their sum, in one backward
    pass, gives each the gradient of alternating updates made from one forward pass. Needs an optimiser for the
    discriminator, see :class:`kddense.JointOptimWrapperConstructor`. Gradient penalties are averaged over images; the
    points at which they are taken depend on the run's seed and iteration alone, not on the number of processes.

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
        weight: float | str | Mapping[str, Any] = 0.1,
        **kwargs: Any,
    ) -> None:
        check_mode(mode)
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
        self.on_depth = either_is_depth(student, teacher)
        if self.on_depth:
            check_depth_scale(student, teacher)
        if self.kind in student.kinds:
            self.classes = kind_of_classes(student, self.kind)
        self.condition_channels = student.image_format.channels or 3
        super().bind(student, teacher)

    def bind_pair(self, own: MapOpinion, other: MapOpinion) -> None:
        super().bind_pair(own, other)
        if self.discriminator is not None:  # the levels of a pyramid share it
            return
        conditions = self.condition_channels if self.conditional else 0
        with within('discriminator'):
            self.discriminator = Discriminator(self._read(own).shape[1], condition_channels=conditions, **self.options)

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        triples = list(self.triples(seen, taught))
        large = [triple for triple in triples if min(triple[1].logits.shape[-2:]) >= Discriminator.least_size]
        numbers = SharedNumbers()
        judged = [self._judge(*triple, numbers) for triple in large or triples[:1]]  # which says so if it is too small
        return {name: sum((one[name] for one in judged[1:]), judged[0][name]) / len(judged) for name in judged[0]}

    def _judge(
        self, sample: MapSample, own: MapOpinion, other: MapOpinion, numbers: SharedNumbers
    ) -> dict[str, Tensor]:
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
            mix = numbers.draw(len(student), student)
            loss = loss + self.penalty * gradient_penalty(score, student.detach(), teacher, mix)
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

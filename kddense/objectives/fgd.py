"""Yang et al., Focal and Global Knowledge Distillation for Detectors, CVPR 2022."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from kddense.exchange import Answer, Batch
from kddense.losses import FGDLoss, focal_masks
from kddense.losses._checks import check_not_negative
from kddense.losses._squares import squares_per_image
from kddense.registry import MODELS
from kddense.views import ModelView

from ._ground_truth import boxes_of, check_boxes
from .feature import FeatureObjective

TERMS = ('foreground', 'background', 'attention', 'relation')


@MODELS.register_module()
class FGDObjective(FeatureObjective):
    """FGD: features inside and outside the ground-truth boxes, what both networks attend to, and the whole image's context.

    For each level, all sums over channels and places, averaged over images; averaged over the levels, which the authors add
    up and the recipes' weights make good:

    * ``loss_foreground``, ``loss_background``: squared differences, weighted by the teacher's attention to places and
      channels, and by the boxes: see :func:`kddense.losses.focal_masks`.
    * ``loss_attention``: absolute differences of the attentions.
    * ``loss_relation``: squared differences behind a context block (GCNet's) for each side. The teacher's block learns too.

    Args:
        tap: See :class:`FeatureObjective`.
        foreground: The paper's α. The defaults are the authors' for RetinaNet.
        background: The paper's β.
        attention: The paper's γ, which it prints as 1e-3; the authors' configs of RetinaNet have 5e-4.
        relation: The paper's λ.
        temperature: Of the attention, the paper's T.
        mode: Where boxes lie on a map. ``'paper'``: where they lie in the input. ``'code'``: the authors stretch them by the
            image's size before padding, which moves them right and down in an image that is padded.
        weight: See :class:`Objective`.
        **kwargs: See :class:`FeatureObjective`.
    """

    of_labelled = True
    loss_names = ('loss_foreground', 'loss_background', 'loss_attention', 'loss_relation')

    def __init__(
        self,
        tap: str | None = None,
        foreground: float = 1e-3,
        background: float = 5e-4,
        attention: float = 5e-4,
        relation: float = 5e-6,
        temperature: float = 0.5,
        mode: Literal['paper', 'code'] = 'paper',
        weight: float | str | Mapping[str, Any] = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(tap=tap, weight=weight, **kwargs)
        self.weights = dict(zip(TERMS, (foreground, background, attention, relation), strict=True))
        for name, value in self.weights.items():
            check_not_negative(name, value)
        self.mode = mode
        self.loss = FGDLoss(temperature)
        self.blocks = nn.ModuleList()

    @property
    def is_off(self) -> bool:
        return super().is_off or not any(self.weights.values())

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        check_boxes(student, 'FGD')
        super().bind(student, teacher)

    def bind_pair(self, own: Tensor, other: Tensor) -> None:
        from mmcv.cnn import ContextBlock  # here, because only this needs mmcv

        super().bind_pair(own, other)
        if own.dim() != 4 or other.dim() != 4:
            raise ValueError(f'FGD compares maps, got {own.dim()} and {other.dim()} dimensions; tap maps on both sides')
        channels = (other if self.connect == 'student' else own).shape[1]
        if channels < 2:
            raise ValueError(f'FGD needs maps of at least 2 channels, got {channels}')
        self.blocks.append(nn.ModuleList(ContextBlock(channels, 1 / 2) for _ in range(2)))

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        assert seen.batch is not None
        boxes, images = boxes_of(seen.batch), self._images(seen.batch)
        levels = []
        for blocks, (own, other) in zip(self.blocks, self.pairs(seen, taught), strict=True):
            masks = focal_masks(boxes, images, (other.shape[2], other.shape[3]))
            student_block, teacher_block = blocks.children()
            relation = squares_per_image(student_block(own), teacher_block(other))
            levels.append((*self.loss(own, other, *masks), relation))
        means = [sum(terms) / len(levels) for terms in zip(*levels, strict=True)]
        return {f'loss_{name}': self.weights[name] * mean for name, mean in zip(TERMS, means, strict=True)}

    def _images(self, batch: Batch) -> list[tuple[int, int]]:
        """Return height and width of what a map covers, in pixels, for each image."""
        if self.mode == 'code':
            return [tuple(sample.img_shape[:2]) for sample in batch.data_samples]
        return [(batch.inputs.shape[-2], batch.inputs.shape[-1])] * len(batch.data_samples)

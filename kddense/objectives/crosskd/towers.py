"""Where the towers of dense heads can be entered, and what comes behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kddense.exchange import Answer, ViewError
from kddense.losses import matched_statistics
from kddense.views import DenseHeadView, ModelView

BRANCHES = ('cls', 'reg')


@dataclass(frozen=True)
class Predictors:
    """The last layers of a head, by their names in it.

    Attributes:
        classes: Behind the tower of classes.
        boxes: Behind the tower of boxes.
        centerness: The one that tells how central a place is, ``None`` if there is none.
        scaled: Whether boxes are multiplied with a learned number for each level.
        share: Of the tower, how much lies before the place where the authors enter it.
    """

    classes: str
    boxes: str
    centerness: str | None = None
    scaled: bool = True
    share: float = 3 / 4


HEADS = {
    'RetinaHead': Predictors('retina_cls', 'retina_reg', scaled=False),
    'FCOSHead': Predictors('conv_cls', 'conv_reg', 'conv_centerness', share=1 / 2),
    'ATSSHead': Predictors('atss_cls', 'atss_reg', 'atss_centerness'),
    'GFLHead': Predictors('gfl_cls', 'gfl_reg'),
}


def head_of(view: ModelView) -> str:
    """Return which of :data:`HEADS` a model has.

    Raises:
        ViewError: If it has none of them, or one that computes otherwise.
    """
    if not isinstance(view, DenseHeadView):
        raise ViewError(
            f'{view.owner} ({type(view.model).__name__}) has no dense head to enter: CrossKD needs a one-stage detector, '
            'and one alone as the teacher'
        )
    view.check('dense')
    head = type(view.model.bbox_head)
    owner = next(base.__name__ for base in head.__mro__ if {'forward', 'forward_single'} & vars(base).keys())
    if owner not in HEADS:
        raise ViewError(
            f'{view.owner}.bbox_head is a {head.__name__}: CrossKD knows where to enter {", ".join(HEADS)} alone'
        )
    return owner


def tap_of(branch: str, layer: int) -> str:
    """Return the tap of what a convolution of a tower gives, before its activation; of layer 0 the pyramid."""
    return f'bbox_head.{branch}_convs.{layer - 1}.activate:input:copy' if layer else 'bbox_head:input'


class Crossing:
    """The rest of a teacher's head, applied to a student's features.

    Args:
        name: Which of :data:`HEADS` the teacher has.
        head: The head itself, of which only settings are kept.
        layer: How many convolutions of its towers are left out.
        class_map: For every class of the student the teacher's, by index; ``None`` if they are the same.
    """

    def __init__(self, name: str, head: Any, layer: int, class_map: list[int] | None) -> None:
        self.predictors = HEADS[name]
        self.layer = layer
        self.rest = layer < head.stacked_convs
        self.class_map = class_map
        self.num_classes: int = head.num_classes
        self.in_distances = name == 'FCOSHead'
        self.clamps: bool = getattr(head, 'norm_on_bbox', False)
        self.centerness_on_boxes: bool = getattr(head, 'centerness_on_reg', True)

    def through(self, taught: Answer, branch: str, own: Tensor, other: Tensor) -> Tensor:
        """Return what the teacher's last layers read, from a student's feature in a tower and the teacher's own."""
        value = matched_statistics(own, other)
        if self.layer:
            value = taught.through(f'bbox_head.{branch}_convs.{self.layer - 1}.activate', value)
        return taught.through(f'bbox_head.{branch}_convs[{self.layer}:]', value) if self.rest else value

    def scores(self, taught: Answer, feature: Tensor) -> Tensor:
        """Return logits of the student's classes, ``(N, A * K, h, w)``."""
        scores = taught.through(f'bbox_head.{self.predictors.classes}', feature)
        if self.class_map is None:
            return scores
        return scores.unflatten(1, (-1, self.num_classes))[:, :, self.class_map].flatten(1, 2)

    def boxes(self, taught: Answer, feature: Tensor, level: int, stride: int) -> Tensor:
        """Return deltas, distances in strides, or logits of distances, as an opinion has them."""
        boxes = taught.through(f'bbox_head.{self.predictors.boxes}', feature)
        if self.predictors.scaled:
            boxes = taught.through(f'bbox_head.scales.{level}', boxes)
        if not self.in_distances:
            return boxes
        return boxes.clamp(min=0) if self.clamps else boxes.exp() / stride

    def centerness(self, taught: Answer, classes: Tensor, boxes: Tensor) -> Tensor:
        """Return logits of how central each place is, ``(N, 1, h, w)``, from the features of both towers."""
        feature = boxes if self.centerness_on_boxes else classes
        return taught.through(f'bbox_head.{self.predictors.centerness}', feature)

"""One-stage detectors whose heads predict at every place of a pyramid: RetinaNet, FCOS, ATSS, GFL, RTMDet and their kin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kddense.views import is_a, owner_of

from .base import DetectorNetwork, Level, check_method, check_scores, check_type, clip

CODERS = ('DeltaXYWHBBoxCoder', 'DistancePointBBoxCoder')


class DenseDetector(DetectorNetwork):
    """A ``SingleStageDetector`` of mmdet with one of its plain dense heads."""

    @classmethod
    def fits(cls, detector: Any) -> bool:
        """Tell whether it is a ``SingleStageDetector`` that predicts as that does."""
        return is_a(detector, 'SingleStageDetector') and owner_of(detector, 'predict') == 'SingleStageDetector'

    def check(self) -> None:
        """Raise a RuntimeError if its head is not a plain one."""
        check_dense_head(self.detector.bbox_head, ('BaseDenseHead', 'GFLHead'))

    @property
    def settings(self) -> tuple[Mapping[str, Any], str]:
        """Those of the head."""
        return self.detector.bbox_head.test_cfg, 'model.test_cfg'

    def levels(self, images: Tensor, sizes: Tensor) -> list[Level]:
        """Return the boxes of each level of the head."""
        return dense_levels(self.detector.bbox_head, self.detector.extract_feat(images), sizes)


def check_dense_head(head: Any, known: tuple[str, ...]) -> None:
    """Raise a RuntimeError if a head's boxes cannot be exported.

    Args:
        head: A dense head of mmdet.
        known: Classes whose way from maps to boxes it may have.
    """
    check_method(head, 'predict', ('BaseDenseHead',))
    check_method(head, 'predict_by_feat', ('BaseDenseHead',))
    check_method(head, '_predict_by_feat_single', known)
    check_type(head.bbox_coder, CODERS, 'bbox_coder')
    check_scores(head)


def dense_levels(head: Any, pyramid: Any, sizes: Tensor) -> list[Level]:
    """Return the boxes and scores of every place, level by level.

    Args:
        head: A dense head that :func:`check_dense_head` let pass.
        pyramid: Its input.
        sizes: Heights and widths of the images, ``(N, 2)``.
    """
    scores, deltas, *factors = head(pyramid)
    priors = head.prior_generator.grid_priors(
        [level.shape[-2:] for level in scores], dtype=scores[0].dtype, device=scores[0].device
    )
    given = factors[0] if factors else [None] * len(scores)
    return [
        Level(
            boxes=_boxes(head, index, places, delta, sizes).unsqueeze(2),
            scores=_scores(head, score),
            factors=None if factor is None else _rows(factor, 1)[..., 0].sigmoid(),
        )
        for index, (places, score, delta, factor) in enumerate(zip(priors, scores, deltas, given, strict=True))
    ]


def _rows(maps: Tensor, width: int) -> Tensor:
    """Return a map ``(N, A * width, H, W)`` as rows ``(N, H * W * A, width)``, as mmdet orders its priors."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, width)


def _scores(head: Any, maps: Tensor) -> Tensor:
    scores = _rows(maps, head.cls_out_channels)
    return scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)[..., :-1]


def _boxes(head: Any, index: int, priors: Tensor, maps: Tensor, sizes: Tensor) -> Tensor:
    if is_a(head, 'GFLHead'):
        bins = 4 * (head.reg_max + 1)
        deltas = head.integral(_rows(maps, bins)).view(maps.shape[0], -1, 4) * head.prior_generator.strides[index][0]
        priors = head.anchor_center(priors)
    else:
        deltas = _rows(maps, 4)
    boxes = head.bbox_coder.decode(priors.expand(maps.shape[0], *priors.shape), deltas)
    boxes = getattr(boxes, 'tensor', boxes)
    return clip(boxes, sizes) if head.bbox_coder.clip_border else boxes

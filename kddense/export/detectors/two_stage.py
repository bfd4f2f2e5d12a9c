"""Two-stage detectors: Faster, Mask and Cascade R-CNN. Their boxes, not their masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import roi_align

from kddense.views import is_a, owner_of

from .base import INSTEAD, DetectorNetwork, Level, check_method, check_scores, check_type, clip
from .dense import check_dense_head, dense_levels
from .suppression import Suppression

HEADS = ('StandardRoIHead', 'CascadeRoIHead')


class TwoStageDetector(DetectorNetwork):
    """A ``TwoStageDetector`` of mmdet with a plain region proposal network, and RoIAlign."""

    keeps_order = False  # the proposals are suppressed, too

    def check(self) -> None:
        """Raise a RuntimeError if one of its heads is not a plain one."""
        detector = self.detector
        check_dense_head(detector.rpn_head, ('RPNHead',))
        check_method(detector.roi_head, 'predict_bbox', HEADS)
        check_method(detector.roi_head, '_bbox_forward', HEADS)
        for extractor, head in self._stages():
            check_type(extractor, ('SingleRoIExtractor',), 'bbox_roi_extractor')
            check_method(head, '_predict_by_feat_single', ('BBoxHead',))
            check_type(head.bbox_coder, ('DeltaXYWHBBoxCoder',), 'bbox_coder')
            check_scores(head)
            for layer in extractor.roi_layers:
                check_type(layer, ('RoIAlign',), 'roi_layer')
                if layer.pool_mode != 'avg':
                    raise RuntimeError(f'RoIAlign with pool_mode={layer.pool_mode!r} cannot be exported: {INSTEAD}')
        self.proposing = Suppression.of(detector.rpn_head.test_cfg, 'model.test_cfg.rpn', by_level=True)

    @classmethod
    def fits(cls, detector: Any) -> bool:
        """Tell whether it is a ``TwoStageDetector`` that predicts as that does."""
        return is_a(detector, 'TwoStageDetector') and owner_of(detector, 'predict') == 'TwoStageDetector'

    @property
    def settings(self) -> tuple[Mapping[str, Any], str]:
        """Those of the head on regions."""
        return self.detector.roi_head.test_cfg, 'model.test_cfg.rcnn'

    def _stages(self) -> list[tuple[Any, Any]]:
        """Return the pairs of extractor and head; a cascade has several."""
        roi_head = self.detector.roi_head
        if is_a(roi_head, 'CascadeRoIHead'):
            return list(zip(roi_head.bbox_roi_extractor, roi_head.bbox_head, strict=True))
        return [(roi_head.bbox_roi_extractor, roi_head.bbox_head)]

    def levels(self, images: Tensor, sizes: Tensor) -> list[Level]:
        """Return the boxes and scores that the last stage gives the proposals."""
        pyramid = self.detector.extract_feat(images)
        boxes, found, _ = self.proposing(dense_levels(self.detector.rpn_head, pyramid, sizes))
        stages = self._stages()
        logits = []
        for number, (extractor, head) in enumerate(stages):
            score, delta = head(self._pooled(extractor, pyramid, boxes))
            logits.append(score.view(*boxes.shape[:2], -1))
            deltas = delta.view(*boxes.shape[:2], -1)
            if number < len(stages) - 1:
                boxes = _refined(head, boxes, logits[-1], deltas, sizes)
        scores = (sum(logits[1:], logits[0]) / len(logits)).softmax(dim=-1)[..., :-1]
        scores = scores * (found > 0)[..., None].to(scores)
        return [Level(_decoded(head, boxes, deltas, sizes), scores)]

    def _pooled(self, extractor: Any, pyramid: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Return the features of regions, ``(N * R, C, h, w)``."""
        image = torch.ones_like(boxes[:, :, :1]).cumsum(dim=0) - 1
        regions = torch.cat([image, boxes], dim=-1).view(-1, 5)
        pooled = _extracted(extractor, pyramid[: extractor.num_inputs], regions)
        shared = self.detector.roi_head.with_shared_head
        return self.detector.roi_head.shared_head(pooled) if shared else pooled


def _extracted(extractor: Any, maps: Sequence[Tensor], regions: Tensor) -> Tensor:
    """Return what a ``SingleRoIExtractor`` does, without a choice of rows: every layer gets all regions.

    Regions of other levels are empty there, of which few samples are taken.
    """
    if len(maps) == 1:
        return _aligned(extractor.roi_layers[0], maps[0], regions)
    levels = extractor.map_roi_levels(regions, len(maps))
    total: Any = 0
    for index, (layer, features) in enumerate(zip(extractor.roi_layers, maps, strict=True)):
        own = (levels == index)[:, None]
        pooled = _aligned(layer, features, torch.where(own, regions, torch.zeros_like(regions)))
        total = total + torch.where(own[..., None, None], pooled, torch.zeros_like(pooled))
    return total


def _aligned(layer: Any, features: Tensor, regions: Tensor) -> Tensor:
    return roi_align(
        features, regions, layer.output_size, layer.spatial_scale, max(layer.sampling_ratio, 0), layer.aligned
    )


def _decoded(head: Any, boxes: Tensor, deltas: Tensor, sizes: Tensor) -> Tensor:
    """Return the boxes that a stage gives regions: ``(N, R, 1, 4)``, or one for each class."""
    decoded = head.bbox_coder.decode(boxes, deltas)
    decoded = getattr(decoded, 'tensor', decoded).view(*boxes.shape[:2], -1, 4)
    return clip(decoded, sizes) if head.bbox_coder.clip_border else decoded


def _refined(head: Any, boxes: Tensor, logits: Tensor, deltas: Tensor, sizes: Tensor) -> Tensor:
    """Return the regions of the next stage: the boxes of the likeliest class."""
    decoded = _decoded(head, boxes, deltas, sizes)
    if head.reg_class_agnostic:
        return decoded[:, :, 0]
    likeliest = logits[..., :-1].argmax(dim=-1)[..., None, None].expand(-1, -1, 1, 4)
    return decoded.gather(2, likeliest)[:, :, 0]

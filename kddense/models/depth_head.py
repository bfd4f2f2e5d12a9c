"""Depth estimation with any decode head of mmseg."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.registry import MODELS

TARGETS = ('log', 'linear', 'bins')


@MODELS.register_module()
class DepthHead(BaseModule):
    """Depth head for mmseg's ``DepthEstimator``: a decode head of mmseg whose output is turned into metres.

    The decoder's one output channel is a position between the least and the greatest depth, through a sigmoid, on a
    linear or a logarithmic scale; or its channels are bins, evenly spaced on a logarithmic scale, and the depth is the
    softmax-weighted sum of their centres' logarithms (Yin et al., "Enforcing Geometric Constraints of Virtual Normal for
    Depth Prediction", ICCV 2019, section 3.3). Any backbone of mmseg will do.

    Pixels whose true depth is not within ``[min_depth, max_depth]``, 0 above all, and padding count nowhere. An image
    without any other is left out; a batch of such images has zero losses.

    Args:
        decoder: Config of a decode head of mmseg without its classes, such as ``dict(type='SegformerHead', ...)``,
            ``UPerHead`` or ``FPNHead``. Its own losses are never used.
        target: ``'log'``, ``'linear'`` or ``'bins'``.
        min_depth: In metres, above 0.
        max_depth: In metres.
        num_bins: How many bins, with ``target='bins'``; VNL's 150.
        loss_decode: One loss or several: mmseg's ``SiLogLoss``, which takes depths in metres, or kddense's
            ``LogL1Loss``, ``VirtualNormalLoss``, ``OrderedCrossEntropyLoss`` (bins only).
        init_cfg: See mmengine's ``BaseModule``.

    Raises:
        ValueError: If the depths, the target, the bins or the losses do not fit together.

    Example:
        >>> decode_head = dict(
        ...     type='kddense.DepthHead',
        ...     decoder=dict(type='SegformerHead', in_channels=[64, 128, 256, 512], in_index=[0, 1, 2, 3], channels=128),
        ...     max_depth=10.0,
        ...     loss_decode=[dict(type='SiLogLoss'), dict(type='kddense.VirtualNormalLoss')])
    """

    num_classes = 1
    out_channels = 1

    def __init__(
        self,
        decoder: Mapping[str, Any],
        target: str = 'log',
        min_depth: float = 0.1,
        max_depth: float = 10.0,
        num_bins: int = 150,
        loss_decode: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        if target not in TARGETS:
            raise ValueError(f'target must be one of {", ".join(map(repr, TARGETS))}, got {target!r}')
        if not 0 < min_depth < max_depth < float('inf'):
            raise ValueError(
                f'min_depth and max_depth must be metres with 0 < min < max, got {min_depth} and {max_depth}'
            )
        if num_bins < 2:
            raise ValueError(f'num_bins must be at least 2, got {num_bins}')
        self.target = target
        self.min_depth = min_depth
        self.max_depth = max_depth
        self.num_bins = num_bins if target == 'bins' else 1
        self.decoder: Any = MODELS.build(_with_outputs(decoder, self.num_bins))
        configs = loss_decode or dict(type='SiLogLoss')
        self.loss_decode = nn.ModuleList(
            MODELS.build(dict(config)) for config in ([configs] if isinstance(configs, Mapping) else configs)
        )
        for loss in self.loss_decode:
            if getattr(loss, 'reads', 'depth') == 'bins' and target != 'bins':
                raise ValueError(f"loss_decode: {type(loss).__name__} needs bins, but target is '{target}'")

    @property
    def align_corners(self) -> bool:
        """Whether maps are resized with aligned corners: as the decoder does."""
        return bool(self.decoder.align_corners)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return depth in metres at the decoder's stride, ``(N, 1, h, w)``."""
        return self.to_depth(self.decoder(features))

    def predict(self, features: Sequence[Tensor], batch_img_metas: list[dict], test_cfg: Any = None) -> Tensor:
        """Return depth in metres at the size of the input, ``(N, 1, H, W)``."""
        return self.to_depth(self.decoder.predict_by_feat(self.decoder(features), batch_img_metas))

    def to_depth(self, logits: Tensor) -> Tensor:
        """Turn what the decoder gives, ``(N, 1 or B, h, w)``, into metres, ``(N, 1, h, w)``, in float32 at least."""
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.target == 'linear':
            return self.min_depth + (self.max_depth - self.min_depth) * logits.sigmoid()
        low, high = math.log(self.min_depth), math.log(self.max_depth)
        if self.target == 'log':
            return (low + (high - low) * logits.sigmoid()).exp()
        centres = torch.linspace(low, high, self.num_bins, device=logits.device, dtype=logits.dtype)
        return torch.einsum('nbhw,b->nhw', logits.softmax(dim=1), centres)[:, None].exp()

    def bins_of(self, depth: Tensor) -> Tensor:
        """Return the index of the bin of each depth in metres; -1 where the depth is 0, not known."""
        low, high = math.log(self.min_depth), math.log(self.max_depth)
        position = (depth.clamp(self.min_depth, self.max_depth).log() - low) / (high - low) * (self.num_bins - 1)
        return torch.where(depth > 0, position.round().long(), -1)

    def known_depth(self, data_samples: Sequence[Any]) -> Tensor:
        """Return the true depth in metres, ``(N, 1, H, W)``; 0 where it is not known, out of range or padding."""
        depths = torch.stack([sample.gt_depth_map.data for sample in data_samples])
        known = (depths >= self.min_depth) & (depths <= self.max_depth)
        for inside, sample in zip(known, data_samples, strict=True):
            height, width = sample.metainfo.get('img_shape', depths.shape[-2:])[:2]
            inside[..., height:, :] = False
            inside[..., width:] = False
        return torch.where(known, depths, torch.zeros_like(depths))

    def loss(self, features: Sequence[Tensor], data_samples: Sequence[Any], train_cfg: Any = None) -> dict[str, Tensor]:
        """Return the losses against ``gt_depth_map`` by name."""
        return self.loss_by_feat(self.decoder(features), data_samples)

    def loss_by_feat(self, logits: Tensor, data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """Return the losses of what the decoder gave, at the size of the true depth."""
        truth = self.known_depth(data_samples)
        logits = F.interpolate(logits, truth.shape[-2:], mode='bilinear', align_corners=self.align_corners)
        some = (truth > 0).flatten(1).any(dim=1)
        if not some.any():
            return {loss.loss_name: 0 * logits.float().sum() for loss in self.loss_decode}  # type: ignore[misc]
        logits, truth = logits[some], truth[some]
        depth = self.to_depth(logits)
        losses: dict[str, Tensor] = {}
        for loss in self.loss_decode:
            pair = (logits, self.bins_of(truth)[:, 0]) if getattr(loss, 'reads', 'depth') == 'bins' else (depth, truth)
            name: Any = loss.loss_name
            losses[name] = losses.get(name, 0) + _with_finite_slope(loss, *pair)
        known = truth > 0
        losses['abs_rel'] = ((depth - truth).abs()[known] / truth[known]).mean().detach()
        return losses

    def extra_repr(self) -> str:
        """Show the scale."""
        return f'target={self.target!r}, min_depth={self.min_depth}, max_depth={self.max_depth}'


def _with_finite_slope(loss: Any, prediction: Tensor, truth: Tensor) -> Tensor:
    """Return a loss; where it is 0, no gradient flows from it: that of a root, as in ``SiLogLoss``, would be NaN."""
    prediction = prediction.view_as(prediction)
    value = loss(prediction, truth)
    if prediction.requires_grad:
        perfect = value.detach() == 0
        prediction.register_hook(lambda gradient: torch.where(perfect, torch.zeros_like(gradient), gradient))
    return value


def _with_outputs(decoder: Mapping[str, Any], channels: int) -> dict[str, Any]:
    for key in ('num_classes', 'out_channels', 'loss_decode'):
        if key in decoder:
            raise ValueError(f'decoder.{key} is for the depth head to set: remove it')
    config: dict[str, Any] = dict(dropout_ratio=0.0, **decoder) if 'dropout_ratio' not in decoder else dict(decoder)
    if channels == 1:
        config['threshold'] = 0.5  # of a binary segmentor, never used: mmseg warns without it
    return dict(config, num_classes=channels, out_channels=channels)

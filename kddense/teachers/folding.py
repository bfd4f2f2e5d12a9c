"""Folding batch norms into the convolutions before them, where that changes nothing."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from kddense.taps import tensors_of

NORMS = (nn.modules.batchnorm._NormBase,)


def norms_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return copies of a model's batch norms by path, as they were trained."""
    return {path: copy.deepcopy(module) for path, module in model.named_modules() if isinstance(module, NORMS)}


def fold(model: Any, channels: int) -> None:
    """Fold what can be folded without changing what the model computes.

    Args:
        model: The model, changed in place.
        channels: The channels of its images.
    """
    if hasattr(model, 'backbone'):
        model.backbone = _folded(model.backbone, channels)
    _fold_conv_modules(model)


def _folded(backbone: nn.Module, channels: int) -> nn.Module:
    """Fold batch norms into the convolutions before them, if the result is the same network.

    mmcv pairs a norm with the convolution defined before it, which need not be the one that runs before it.
    """
    from mmcv.cnn import fuse_conv_bn

    weight = next(backbone.parameters())
    size = (channels, 64, 64)
    image = torch.linspace(-2, 2, size[0] * 64 * 64, device=weight.device, dtype=weight.dtype).view(1, *size)
    try:
        with torch.no_grad():
            expected = list(tensors_of(backbone(image)))
            folded = fuse_conv_bn(copy.deepcopy(backbone)).requires_grad_(False)
            got = list(tensors_of(folded(image)))
    except (RuntimeError, ValueError, AssertionError):  # one that takes no such image is left as it is
        return backbone
    return folded if all(map(_are_close, expected, got)) else backbone


def _are_close(expected: Tensor, got: Tensor) -> bool:
    scale = expected.abs().max()
    return bool(scale.isfinite()) and torch.allclose(expected, got, rtol=1e-3, atol=1e-3 * float(scale))


def _fold_conv_modules(model: nn.Module) -> None:
    """Fold the batch norms of mmcv's ConvModules, which say in which order they run, unless a convolution is shared."""
    from mmcv.cnn import ConvModule, fuse_conv_bn

    uses = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for module in list(model.modules()):
        if isinstance(module, ConvModule) and module.order[:2] == ('conv', 'norm') and uses[id(module.conv)] == 1:
            fuse_conv_bn(module)
    model.requires_grad_(False)

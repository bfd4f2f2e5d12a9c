"""Batch norms behind layers: deployment folds them into the weight before that is rounded."""

from __future__ import annotations

import itertools
from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

SMALLEST = 1e-12  # a factor below, such as the 0 of a norm that begins with it, would lose the weight


def norms_behind(model: nn.Module) -> dict[str, str]:
    """Return the paths of batch norms by those of the convolutions before them.

    A norm belongs to a convolution if it is the next part of the same module, has its channels, and mmcv's ConvModule
    does not say otherwise. A convolution with several uses, such as heads that share one over levels, has none, and
    neither has a transposed one with groups, whose weight holds several channels in one place.
    """
    uses = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    found = {}
    for parent_path, parent in model.named_modules():
        if tuple(getattr(parent, 'order', ('conv', 'norm')))[:2] != ('conv', 'norm'):
            continue
        children = list(parent.named_children())
        for (name, layer), (norm_name, norm) in itertools.pairwise(children):
            if uses[id(layer)] == 1 and uses[id(norm)] == 1 and _is_pair(layer, norm):
                start = f'{parent_path}.' if parent_path else ''
                found[start + name] = start + norm_name
    return found


def _is_pair(layer: nn.Module, norm: nn.Module) -> bool:
    if not isinstance(layer, _ConvNd) or not isinstance(norm, _BatchNorm):
        return False
    channels = layer.weight.shape[axis_of(layer)]
    return norm.num_features == channels and norm.affine and norm.running_var is not None


def axis_of(layer: nn.Module) -> int:
    """Return the dimension of a layer's weight that counts output channels."""
    return 1 if isinstance(layer, _ConvTransposeNd) else 0


@torch.no_grad()
def fold_factor(gamma: Tensor, variance: Tensor, eps: float) -> Tensor:
    """Return by what folding multiplies each output channel, ``γ / √(σ² + ε)``; 1 where that is as good as 0.

    Args:
        gamma: ``(C,)``, the norm's weight.
        variance: ``(C,)``, its running variance.
        eps: Its epsilon.

    Returns:
        ``(C,)``, float32, no gradient.

    Example:
        >>> fold_factor(torch.tensor([4.0, 0.0]), torch.tensor([3.0, 3.0]), eps=1.0)
        tensor([2., 1.])
    """
    factor = gamma.float() / (variance.float() + eps).sqrt()
    return torch.where(factor.abs() < SMALLEST, torch.ones_like(factor), factor)


def along(factor: Tensor, weight: Tensor, axis: int) -> Tensor:
    """Return one number for each output channel in a shape that multiplies the weight."""
    return factor.view([-1 if dimension == axis else 1 for dimension in range(weight.ndim)])

"""What was distilled, made visible: where features are strong, and which places are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from kddense.taps import tensors_of
from kddense.views import ModelView, Question

NODES = (16, 32)  # at most so many places, down and across


def feature_energy(feature: Tensor) -> np.ndarray:
    """Return the length of the feature at each place, scaled to 0..1 over the map.

    Args:
        feature: ``(C, h, w)``.

    Returns:
        ``(h, w)``; all 0 where the map has one value only.
    """
    length = feature.detach().float().square().mean(0).sqrt()
    low, high = length.min(), length.max()
    return ((length - low) / (high - low).clamp(min=1e-12)).cpu().numpy()


def affinities(feature: Tensor) -> Tensor:
    """Return the cosine of the features of any two places (section 3.2.2 of structured distillation).

    Places are averages over a grid of at most 16 x 32.

    Args:
        feature: ``(C, h, w)``.

    Returns:
        ``(h', w', h', w')``, in -1..1.
    """
    height, width = (min(cells, most) for cells, most in zip(feature.shape[-2:], NODES, strict=True))
    nodes = F.adaptive_avg_pool2d(feature.detach().float()[None], (height, width))[0].flatten(1)
    unit = F.normalize(nodes, dim=0)
    return (unit.T @ unit).view(height, width, height, width)


def shared_tap(objectives: Mapping[str, Mapping[str, Any]], view: ModelView, side: str) -> str:
    """Return where to look at features: where an objective listens, else the neck, else the backbone.

    Args:
        objectives: Configs of the objectives by name.
        view: The model.
        side: ``'student'`` or ``'teacher'``.
    """
    for objective in objectives.values():
        tap = objective.get('tap')
        if side == 'teacher':
            tap = objective.get('teacher_tap') or tap
        if tap:
            return str(tap)
    return 'neck' if getattr(view.model, 'neck', None) is not None else 'backbone'


def map_at(shown: Any) -> Tensor:
    """Return a map ``(C, h, w)`` of the first image out of what a tap heard: of a pyramid, the finest level."""
    maps = [tensor[0] for tensor in tensors_of(shown) if tensor.ndim == 4]
    if not maps:
        raise ValueError('the tap holds no map of shape (N, C, h, w)')
    return max(maps, key=lambda feature: feature.shape[-1])


def pair_kind(objectives: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return which features a pair-wise objective compares, ``'pixels'`` or ``'scores'``; ``None`` without one."""
    for objective in objectives.values():
        if str(objective.get('type', '')).rpartition('.')[2] == 'PairWiseObjective':
            return 'scores' if objective.get('on') == 'bbox_head' else 'pixels'
    return None


def question(tap: str, kind: str | None) -> Question:
    """Return what to ask a model for its features at a tap and, with a pair-wise term, before its classifier."""
    return Question(frozenset({tap}), opinions=frozenset({kind} if kind else ()))


def inside(feature: Tensor, image: Sequence[int], padded: Sequence[int]) -> Tensor:
    """Cut the padding off a map ``(C, h, w)`` of an image that was padded at the right and the bottom."""
    height, width = (
        max(1, round(cells * own / all_of_it))
        for cells, own, all_of_it in zip(feature.shape[-2:], image, padded, strict=True)
    )
    return feature[:, :height, :width]

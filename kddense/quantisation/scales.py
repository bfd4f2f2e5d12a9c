"""The scales that a checkpoint holds, for those who write them into a format of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .folding import along, fold_factor
from .steps import TINY, Steps, ends_of, signed_ends, steps_by_channel
from .ternary import ternary_levels

KEY = 'quantised'  # in a checkpoint, where stock tools do not look


class LayerScales(NamedTuple):
    """How one layer computes.

    Attributes:
        weight: Steps of its weight: one for each output channel, or ``()`` for the whole. ``None`` if its quantiser has no
            even steps, but buckets or points.
        axis: The dimension of the weight that counts output channels.
        norm: The path of the batch norm that is folded into the weight before it is rounded: ``weight`` then has the steps
            of ``weight · γ / √(σ² + ε)``. ``None`` if nothing is folded.
        factor: ``(C,)``, by what folding multiplies each channel; ``None`` if nothing is folded.
        input: Steps of what the layer is given, scalars. ``None`` if it is not quantised, or the layer never ran.
        zeros: Of ternary weights, up to which size they are 0; ``None`` of others.
    """

    weight: Steps | None
    axis: int
    norm: str | None
    factor: Tensor | None
    input: Steps | None
    zeros: Tensor | None = None

    def whole(self, weight: Tensor) -> Tensor:
        """Return the whole numbers that a weight is rounded to, as floats.

        Args:
            weight: With its norm folded; the layer has steps for it.
        """
        assert self.weight is not None
        if self.zeros is not None:
            return weight.sign() * (weight.abs() > self.zeros)
        scale, zero = (along(one.expand(weight.shape[self.axis]), weight, self.axis) for one in self.weight[:2])
        return ((weight / scale).round() + zero).clamp(self.weight.least, self.weight.most)


def scales_of(checkpoint: Mapping[str, Any], weights: Mapping[str, Tensor] | None = None) -> dict[str, LayerScales]:
    """Return the scales of each quantised layer by its path in the student.

    Args:
        checkpoint: What ``torch.load`` gives of a run with a :class:`kddense.QuantiseHook` that has ``activations``, or of
            ``kddense export --quantised --calibrate``.
        weights: The student's weights by name: those of the checkpoint's ``state_dict`` by default. Scales that are not
            learned follow them, so give averaged weights if these are exported.

    Raises:
        ValueError: If the checkpoint holds none.
    """
    kept = checkpoint.get(KEY) or {}
    if not kept.get('layers'):
        raise ValueError(
            'the checkpoint holds no scales: train with a kddense.QuantiseHook that has activations, or calibrate with '
            'kddense export --quantised --calibrate'
        )
    own: Mapping[str, Tensor] = checkpoint['state_dict'] if weights is None else weights
    return {path: _scales_of(path, layer, kept, own) for path, layer in kept['layers'].items()}


def _scales_of(path: str, layer: Mapping[str, Any], kept: Mapping[str, Any], own: Mapping[str, Tensor]) -> LayerScales:
    axis, norm = layer['axis'], layer['norm']
    factor = fold_factor(own[f'{norm}.weight'], own[f'{norm}.running_var'], layer['eps']) if norm else None
    given = kept.get('inputs', {}).get(path)
    weight = own[f'{path}.weight'].detach().float()
    folded = weight if factor is None else weight * along(factor, weight, axis)
    steps, zeros = _weight_steps(path, folded, axis, kept)
    return LayerScales(steps, axis, norm, factor, Steps(**given) if given else None, zeros)


def _weight_steps(path: str, weight: Tensor, axis: int, kept: Mapping[str, Any]) -> tuple[Steps | None, Tensor | None]:
    """Return the steps of a weight, with its norm folded, and of a ternary one up to which size it is 0."""
    how = kept['weights']
    if not how:
        return None, None
    if how['mode'] == 'ternary':
        zeros, size = ternary_levels(weight, how['threshold'])
        return _about_zero(size.clamp(min=TINY), (-1, 1)), zeros
    if how['mode'] == 'wrpn':
        ends = ends_of(how['bits'], 'symmetric')
        return _about_zero(torch.tensor(1 / ends[1]), ends), None
    if how['mode'] == 'learned':
        return _about_zero(kept['steps'][path], signed_ends(how['bits'])), None
    return steps_by_channel(weight, how['bits'], how['mode'], axis), None


def _about_zero(scale: Tensor, ends: tuple[int, int]) -> Steps:
    return Steps(scale, torch.zeros_like(scale, dtype=torch.int32), *ends)

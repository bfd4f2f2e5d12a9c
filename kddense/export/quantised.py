"""The weights of a student as a run's :class:`kddense.QuantiseHook` rounds them: still floats, under the same names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from kddense.quantisation import LearnedPointsQuantiser, axis_of, choose_layers, weight_of
from kddense.registry import name_of
from kddense.training import QuantiseHook
from kddense.training.quantise import KEY, points_in, told_size


@torch.no_grad()
def quantise_student(student: nn.Module, config: Config, contents: Mapping[str, Any]) -> str:
    """Give a student the quantised weights that it computes with in a run.

    Args:
        student: The plain student with its float weights; changed in place.
        config: The config of the run.
        contents: The checkpoint of the run, for what was learned.

    Returns:
        What it comes to, a sentence.

    Raises:
        ValueError: If the run does not quantise, or the checkpoint lacks what was learned.
    """
    hook = next(_hooks_in(config), None)
    if hook is None:
        raise ValueError(
            'the config of the run has no kddense.QuantiseHook, which says how weights are quantised: leave out --quantised'
        )
    quantiser, skip, ends = hook.quantiser, hook.skip, hook.ends
    layers = choose_layers(student, skip, ends)
    quantiser.begin({path: weight_of(layer) for path, layer in layers.items()})
    if isinstance(quantiser, LearnedPointsQuantiser):
        quantiser.restore(points_in(contents.get(KEY)))
    quantiser.eval()
    for path, layer in layers.items():
        weight_of(layer).copy_(quantiser(weight_of(layer), path, axis_of(layer)))
    return told_size(student, layers, quantiser)


def _hooks_in(config: Config) -> Iterator[QuantiseHook]:
    """Yield the hooks of a config that quantise."""
    hooks = [*(config.get('default_hooks') or {}).values(), *(config.get('custom_hooks') or [])]
    for one in hooks:
        if isinstance(one, Mapping) and name_of(one.get('type') or '') == QuantiseHook.__name__:
            yield QuantiseHook(**{key: value for key, value in one.items() if key not in ('type', 'priority')})

"""The weights of a student as a run's :class:`kddense.QuantiseHook` rounds them: still floats, under the same names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from kddense.quantisation import LearnedPointsQuantiser, axis_of, choose_layers, weight_of
from kddense.training.quantise import KEY, points_in, quantising_hook, told_size


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
    hook = quantising_hook(config)
    quantiser, layers = hook.quantiser, choose_layers(student, hook.skip, hook.ends)
    quantiser.begin({path: weight_of(layer) for path, layer in layers.items()})
    if isinstance(quantiser, LearnedPointsQuantiser):
        quantiser.restore(points_in(contents.get(KEY)))
    quantiser.eval()
    for path, layer in layers.items():
        weight_of(layer).copy_(quantiser(weight_of(layer), path, axis_of(layer)))
    return told_size(student, layers, quantiser)

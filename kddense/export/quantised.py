"""The weights of a student as a run's :class:`kddense.QuantiseHook` rounds them: still floats, under the same names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from torch import nn

from kddense.quantisation.scales import KEY
from kddense.training.quantised import quantising_hook

from .calibration import calibrate


def quantise_student(
    student: nn.Module, config: Config, contents: Mapping[str, Any], batches: int | None = None
) -> tuple[str, dict[str, Any]]:
    """Give a student the quantised weights that it computes with in a run.

    Args:
        student: The plain student with its float weights, in eval mode; its weights change in place.
        config: The config of the run.
        contents: The checkpoint of the run, for what was learned and seen.
        batches: Of training images, by which activations are calibrated anew; ``None`` for what the run saw.

    Returns:
        What it comes to, a sentence, and what the exported checkpoint keeps of it.

    Raises:
        ValueError: If the run does not quantise, or the checkpoint lacks what was learned or seen.
    """
    quantised = quantising_hook(config).choose(student)
    quantised.restore(contents.get(KEY) or {}, activations=batches is None)
    if batches is not None:
        calibrate(quantised, config, batches)
    if quantised.activations is not None and not quantised.activations.known:
        raise ValueError(
            'activations: no observer of the run saw anything: train for an iteration at least, or add --calibrate'
        )
    quantised.train(False)
    quantised.round_weights()
    kept = {} if quantised.activations is None else {KEY: quantised.state()}
    return quantised.told_size(), kept

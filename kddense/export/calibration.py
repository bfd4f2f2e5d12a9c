"""Ranges of activations of a student that was trained without: it predicts on training images while they are watched."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, set_random_seed

from kddense.quantisation import QuantisedStudent
from kddense.random_state import forked_random_state

from .errors import first_sentence


def calibrate(quantised: QuantisedStudent, config: Config, batches: int) -> None:
    """Set what a student's activations are rounded to by what it computes on training images; nothing is trained.

    Images are augmented as in training, always the same ones. The weights are those that the student computes with.

    Args:
        quantised: The student, which is in eval mode, with ``activations``; its layers compute as ever afterwards.
        config: The config of a run, whose ``train_dataloader`` has the images.
        batches: How many batches, at least 1.

    Raises:
        ValueError: If there is nothing to calibrate, or images cannot be read.
    """
    if quantised.activations is None:
        raise ValueError(
            "calibrate: the QuantiseHook of the run rounds no activations: give it activations=dict(type='kddense."
            "MinMaxQuantiser'), or leave out --calibrate"
        )
    quantised.attach()
    quantised.activations.rounds = False
    try:
        with torch.no_grad(), forked_random_state():
            for number, batch in enumerate(_batches(config, batches)):
                quantised.begin_step(number)
                student: Any = quantised.student
                given = student.data_preprocessor(batch, training=True)
                student(**_at_their_own_size(given), mode='predict')
                quantised.end_step()
    finally:
        quantised.activations.rounds = True
        quantised.remove()
    if not quantised.activations.known:
        raise ValueError('calibrate: train_dataloader gave no image')


def _at_their_own_size(given: dict[str, Any]) -> dict[str, Any]:
    """Let samples of a pipeline that resizes nothing say so: detectors scale boxes back by it."""
    for sample in given.get('data_samples') or ():
        if 'scale_factor' not in sample:
            sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    return given


def _batches(config: Config, batches: int) -> Iterator[Any]:
    set_random_seed(0)
    loader = copy.deepcopy(config.get('train_dataloader'))
    if loader is None:
        raise ValueError('calibrate: the config has no train_dataloader, whose images are needed')
    loader.update(num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    try:
        with DefaultScope.overwrite_default_scope(config.get('default_scope')):
            yield from itertools.islice(Runner.build_dataloader(loader, seed=0), batches)
    except Exception as error:  # data sets and transforms of any library may fail in any way
        raise ValueError(f'calibrate: train_dataloader cannot be read: {first_sentence(error)}') from error

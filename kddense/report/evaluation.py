"""Measuring a trained model: its metrics, also by class."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from kddense.configs import plain_model
from kddense.registry import MODELS
from kddense.teachers.weights import read_checkpoint, take_weights
from kddense.training.quantised import compute_as_trained

from .image_scores import ImageScores, image_scores

SPLITS = ('val', 'test')


@dataclass(frozen=True)
class Evaluation:
    """What a model measured on a data set.

    Attributes:
        metrics: By the names of the evaluators.
        by_class: A metric of each class, or of whatever else the pixels are sorted by.
        measure: What ``by_class`` holds, such as ``'IoU'``.
        images: How many images it was measured on.
        image_scores: What each image adds to it, to draw images again; ``None`` of evaluators that are not known.
    """

    metrics: dict[str, float]
    by_class: dict[str, float] = field(default_factory=dict)
    measure: str = ''
    images: int = 0
    image_scores: ImageScores | None = field(default=None, compare=False)


def plain_config(config: Config) -> Config:
    """Return a config of the model that a run trained: of a distillation, its student without a teacher."""
    plain = copy.deepcopy(config)
    plain.model = plain_model(plain)
    return plain


def build_model(config: Config) -> nn.Module:
    """Build the model of a plain config in eval mode, with the initial weights that its training starts from."""
    with scope_of(config):
        model = MODELS.build(config.model)
        model.init_weights()
    return model.eval()


def load_model(config: Config, checkpoint: str, trust_checkpoint: bool = False, name: str = 'model') -> nn.Module:
    """Build the model of a plain config in eval mode, and load its weights, every one of them.

    Args:
        config: See :func:`plain_config`. With a :class:`kddense.QuantiseHook`, the model computes with few bits.
        checkpoint: Path of the weights.
        trust_checkpoint: See :class:`kddense.FrozenTeacher`.
        name: How messages call it.

    Raises:
        ValueError: If the weights are of another model, or the checkpoint lacks what the hook needs.
    """
    with scope_of(config):
        model = MODELS.build(config.model)
    contents = read_checkpoint(checkpoint, trust_checkpoint, name)
    take_weights(model, contents, checkpoint, name)
    compute_as_trained(model, config, contents)
    return model.eval()


def scope_of(config: Config) -> Any:
    """Return a context in which names without a package are those of the config's own."""
    return DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmengine'))


def build_loader(config: Config, split: str) -> DataLoader:
    """Build the loader of what a config is evaluated on, in this process alone.

    Raises:
        ValueError: If the config has none.
    """
    if config.get(f'{split}_dataloader') is None:
        raise ValueError(f'the config has no {split}_dataloader')
    loader = copy.deepcopy(config[f'{split}_dataloader'])
    loader.update(num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    with scope_of(config), _quiet():
        return Runner.build_dataloader(loader, seed=0)


def evaluate(
    model: nn.Module,
    config: Config,
    split: str = 'val',
    progress: Callable[[int, int], None] | None = None,
    loader: DataLoader | None = None,
) -> Evaluation:
    """Run a model over a split and return what the config's own evaluator says, without leaving logs or files.

    Args:
        model: In eval mode.
        config: Its config; the keys ``{split}_dataloader`` and ``{split}_evaluator`` are used.
        split: ``'val'`` or ``'test'``.
        progress: Called with the number of batches that are done, and of all.
        loader: What :func:`build_loader` gave, if it is at hand.
    """
    loader = build_loader(config, split) if loader is None else loader
    dataset: Any = loader.dataset
    evaluator_config = config[f'{split}_evaluator']
    with scope_of(config), _quiet():
        evaluator = Evaluator(evaluator_config if isinstance(evaluator_config, list) else [evaluator_config])
    evaluator.dataset_meta = dataset.metainfo
    for index, batch in enumerate(loader):
        with torch.no_grad():
            evaluator.process(data_samples=model.test_step(batch), data_batch=batch)  # type: ignore[operator]
        if progress is not None:
            progress(index + 1, len(loader))
    gathered = [list(metric.results) for metric in evaluator.metrics]  # evaluating clears them
    with _quiet():
        found = evaluator.evaluate(len(dataset))
    metrics = {key: float(value) for key, value in found.items() if _is_number(value)}
    names = {f'{name}_precision' for name in dataset.metainfo.get('classes') or ()}
    metrics = {key: value for key, value in metrics.items() if key.rpartition('/')[2] not in names}
    known = [image_scores(*pair) for pair in zip(evaluator.metrics, gathered, strict=True)]
    images = next((one for one in known if one is not None), None)
    return _unrounded(Evaluation(metrics, images=len(dataset), image_scores=images))


def _unrounded(evaluation: Evaluation) -> Evaluation:
    """Put in what the images give, each drawn once: evaluators round before the page does."""
    images = evaluation.image_scores
    if images is None:
        return evaluation
    once = np.ones((1, images.images))
    exact = {key: float(values[0]) for key, values in images.scores(once).items() if key in evaluation.metrics}
    by_class = {name: float(values[0]) for name, values in images.by_class(once).items()}
    return replace(evaluation, metrics={**evaluation.metrics, **exact}, by_class=by_class, measure=images.measure)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number))


def _quiet() -> Any:
    """Return a context without what COCO's code prints."""
    return contextlib.redirect_stdout(io.StringIO())

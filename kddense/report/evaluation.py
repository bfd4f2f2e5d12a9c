"""Measuring a trained model: its metrics, also by class."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kddense.configs import plain_model
from kddense.registry import MODELS
from kddense.teachers import load_weights

SPLITS = ('val', 'test')


@dataclass(frozen=True)
class Evaluation:
    """What a model measured on a data set.

    Attributes:
        metrics: By the names of the evaluators.
        by_class: A metric of each class, or of whatever else the pixels are sorted by.
        measure: What ``by_class`` holds, such as ``'IoU'``.
        images: How many images it was measured on.
    """

    metrics: dict[str, float]
    by_class: dict[str, float] = field(default_factory=dict)
    measure: str = ''
    images: int = 0


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
        config: See :func:`plain_config`.
        checkpoint: Path of the weights.
        trust_checkpoint: See :class:`kddense.FrozenTeacher`.
        name: How messages call it.

    Raises:
        ValueError: If the weights are of another model.
    """
    with scope_of(config):
        model = MODELS.build(config.model)
    load_weights(model, checkpoint, trust_checkpoint, name)
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
    for metric in evaluator.metrics:
        if hasattr(metric, 'classwise'):
            metric.classwise = True
    for index, batch in enumerate(loader):
        with torch.no_grad():
            evaluator.process(data_samples=model.test_step(batch), data_batch=batch)  # type: ignore[operator]
        if progress is not None:
            progress(index + 1, len(loader))
    measure, by_class = _by_class_of_pixels(evaluator.metrics)
    with _quiet():
        found = evaluator.evaluate(len(dataset))
    metrics = {key: float(value) for key, value in found.items() if _is_number(value)}
    names = {f'{name}_precision': name for name in dataset.metainfo.get('classes') or ()}
    of_boxes = {
        names[key.rpartition('/')[2]]: value for key, value in metrics.items() if key.rpartition('/')[2] in names
    }
    if of_boxes:
        measure, by_class = 'AP', {name: 100 * value for name, value in of_boxes.items()}
        metrics = {key: value for key, value in metrics.items() if key.rpartition('/')[2] not in names}
    return Evaluation(metrics, by_class, measure, len(dataset))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number))


def _quiet() -> Any:
    """Return a context without what COCO's code prints."""
    return contextlib.redirect_stdout(io.StringIO())


def _by_class_of_pixels(metrics: Sequence[Any]) -> tuple[str, dict[str, float]]:
    """Return IoU by class, or the relative error of depths by distance, from what the evaluators gathered."""
    for metric in metrics:
        if hasattr(metric, 'total_area_to_metrics') and metric.results:
            areas = [sum(parts) for parts in zip(*metric.results, strict=True)]
            ious = metric.total_area_to_metrics(*areas, ['mIoU'])['IoU']
            names = metric.dataset_meta['classes']
            return 'IoU', {name: 100 * float(iou) for name, iou in zip(names, ious, strict=True)}
        if hasattr(metric, 'max_depth_eval') and metric.results:
            return 'abs rel', _error_by_distance(metric.results)
    return '', {}


def _error_by_distance(results: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Return the mean relative error of the nearest, the middle and the farthest third of all pixels."""
    truth, predicted = (torch.cat([pair[side].flatten().float() for pair in results]).cpu().numpy() for side in (0, 1))
    error = np.abs(predicted - truth) / truth
    bounds = np.quantile(truth, [0, 1 / 3, 2 / 3, 1])
    thirds = np.searchsorted(bounds[1:3], truth, side='right')
    names = [f'{low:.1f} m to {high:.1f} m' for low, high in itertools.pairwise(bounds)]
    return {name: float(error[thirds == third].mean()) for third, name in enumerate(names) if (thirds == third).any()}

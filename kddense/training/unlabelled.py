"""Unlabelled images in every batch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.runner import Runner

from kddense.registry import HOOKS, name_of

from .added_hook import AddedHook


@HOOKS.register_module()
class UnlabelledImagesHook(AddedHook):
    """Adds unlabelled images to every batch: objectives use them, the student's own losses ignore them.

    Structured distillation gains much from them (section 4 of the paper: CamVid with 2000 more frames). The images run
    through the student together with the labelled ones, so batch norm sees both. For segmentors, depth estimators, and
    detectors with RoI or dense heads, whose objectives must then compare features: heads sample by labels.

    Args:
        dataset: Config of the images: a ``kddense.UnlabelledImages``, or any dataset class that gives images without their
            labels. Its pipeline is by default the training images' own, less what needs labels.
        ratio: Unlabelled images for each labelled one.
        num_workers: Processes that load them.

    Example:
        >>> default_hooks = dict(
        ...     unlabelled=dict(
        ...         type='kddense.UnlabelledImagesHook',
        ...         ratio=1,
        ...         dataset=dict(type='kddense.UnlabelledImages', images=['data/frames', 'data/drive.mp4'])))
    """

    def __init__(self, dataset: Mapping[str, Any], ratio: float = 1.0, num_workers: int = 0) -> None:
        if not 0 < ratio < float('inf'):
            raise ValueError(f'ratio must be above 0, got {ratio}')
        if num_workers < 0:
            raise ValueError(f'num_workers must be at least 0, got {num_workers}')
        if 'type' not in dataset:
            raise ValueError(f'dataset must be the config of a data set, with a `type`, got {dataset!r}')
        self.dataset = copy.deepcopy(dict(dataset))
        self.ratio = ratio
        self.num_workers = num_workers
        self._batches: Iterator[Any] | None = None

    def before_train(self, runner: Runner) -> None:
        batch_size = round(self.ratio * runner.train_dataloader.batch_size)
        if batch_size < 1:
            raise ValueError(
                f'custom_hooks: {self.ratio} unlabelled images for each of {runner.train_dataloader.batch_size} are less '
                'than one image: raise the ratio of the UnlabelledImagesHook'
            )
        self.dataset.setdefault('pipeline', pipeline_without_labels(_training_pipeline(runner)))
        self.dataset.setdefault('lazy_init', False)
        self.dataset.setdefault('serialize_data', False)  # mmengine cannot serialise an empty list
        loader = runner.build_dataloader(
            dict(
                dataset=self.dataset,
                batch_size=batch_size,
                num_workers=self.num_workers,
                sampler=dict(type='InfiniteSampler', shuffle=True),
            ),
            seed=runner.seed,
        )
        if len(loader.dataset) == 0:
            raise ValueError(
                f'custom_hooks: the UnlabelledImagesHook found no image in {self.dataset.get("data_prefix")}'
            )
        self._batches = iter(loader)
        for _ in range(runner.iter):  # where a resumed run left off
            next(self._batches)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        assert self._batches is not None
        more = next(self._batches)
        for sample in more['data_samples']:
            sample.set_metainfo(dict(unlabelled=True))
        for key in data_batch:
            data_batch[key].extend(more[key])


def pipeline_without_labels(pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a training pipeline without the steps that need labels."""
    labels = ('LoadAnnotations', 'LoadDepthAnnotation', 'LoadPanopticAnnotations', 'FilterAnnotations')
    kept = [dict(step) for step in pipeline if name_of(step['type']) not in labels]
    for step in kept:
        if 'cat_max_ratio' in step:  # looks for a crop whose labels are mixed
            step['cat_max_ratio'] = 1.0
    return kept


def _training_pipeline(runner: Runner) -> list[dict[str, Any]]:
    dataset = runner.cfg.train_dataloader.dataset
    while 'pipeline' not in dataset and 'dataset' in dataset:  # wrapped in another
        dataset = dataset.dataset
    if 'pipeline' not in dataset:
        raise ValueError('custom_hooks: the UnlabelledImagesHook needs a `pipeline` in its dataset')
    return copy.deepcopy(list(dataset.pipeline))

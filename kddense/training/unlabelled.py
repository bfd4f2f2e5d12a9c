"""Unlabelled images in every batch."""

from __future__ import annotations

import copy
import logging
import statistics
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.dataset import Compose
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from kddense.datasets.held_out import tell_held_out
from kddense.datasets.samplers import Draw
from kddense.datasets.unlabelled import mark_unlabelled
from kddense.errors import ConfigError, sentence_of, within
from kddense.random_state import forked_random_state
from kddense.registry import HOOKS, name_of

from .added_hook import AddedHook

KEY = 'custom_hooks.UnlabelledImagesHook.dataset'
LABELS = (
    *('LoadAnnotations', 'LoadDepthAnnotation', 'LoadPanopticAnnotations', 'LoadEmptyAnnotations'),
    *('FilterAnnotations', 'GenerateEdge'),
)
MIXING = ('Mosaic', 'CachedMosaic', 'MixUp', 'CachedMixUp', 'CopyPaste', 'RandomMosaic', 'RandomDepthMix')
BOXES = ('MinIoURandomCrop', 'RandomCenterCropPad', 'RandomAffine', 'RandomShift', 'RandomErasing')


@HOOKS.register_module()
class UnlabelledImagesHook(AddedHook):
    """Adds unlabelled images to every batch: objectives use them, the student's own losses ignore them.

    Structured distillation gains much from them (section 4 of the paper: CamVid with 2000 more frames). The images run
    through the student together with the labelled ones, so batch norm sees both. For segmentors, depth estimators, and
    detectors with RoI or dense heads, which are compared at the student's best proposals, anchors and places.

    Args:
        dataset: Config of the images: a ``kddense.UnlabelledImages``, or any dataset class that gives images without their
            labels; others may stand around it. Its pipeline is by default the training images' own, less what needs labels
            and what mixes several images, such as Mosaic; which steps these are is said.
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
        labelled = _batch_size(runner.train_dataloader)
        batch_size = round(self.ratio * labelled)
        if batch_size < 1:
            raise ValueError(
                f'custom_hooks: {self.ratio} unlabelled images for each of {labelled:g} are less '
                'than one image: raise the ratio of the UnlabelledImagesHook'
            )
        self._set_defaults(runner)
        with within(KEY, self.dataset):
            loader = self._build_loader(runner, batch_size)
        if isinstance(runner.val_loop, BaseLoop):
            _tell_held_out(loader.dataset, runner.val_loop.dataloader.dataset)
        self._batches = iter(loader)
        for _ in range(runner.iter):  # where a resumed run left off
            next(self._batches)

    def _set_defaults(self, runner: Runner) -> None:
        readers = list(_readers(self.dataset))
        for reader in readers:
            reader.setdefault('lazy_init', False)
            reader.setdefault('serialize_data', False)  # mmengine cannot serialise an empty list
        if lacking := [reader for reader in readers if 'pipeline' not in reader]:
            pipeline = _default_pipeline(runner)
            for reader in lacking:
                reader['pipeline'] = copy.deepcopy(pipeline)

    def _build_loader(self, runner: Runner, batch_size: int) -> DataLoader:
        loader = runner.build_dataloader(
            dict(
                dataset=self.dataset,
                batch_size=batch_size,
                num_workers=self.num_workers,
                sampler=dict(type='kddense.InfiniteVariantSampler', shuffle=True),
            ),
            seed=runner.seed,
        )
        if len(loader.dataset) == 0:
            raise ConfigError(f': there is no image in {next(_readers(self.dataset)).get("data_prefix")}')
        _check_first(loader.dataset)
        return loader

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        assert self._batches is not None
        more = next(self._batches)
        for sample in more['data_samples']:
            mark_unlabelled(sample)
        for key, values in more.items():  # a batch may hold more, such as a worker's random state
            data_batch[key].extend(values)


def _tell_held_out(images: Any, measured_on: Any) -> None:
    if told := tell_held_out(images, measured_on, 'validation'):
        print_log(f'{KEY}: {told}', logger='current', level=logging.WARNING)


def _batch_size(loader: DataLoader) -> float:
    """Return how many images a batch has; the mean where a batch sampler has a size for each of several data sets."""
    sampler: Any = loader.batch_sampler
    sizes = sampler.batch_size  # the loader's own is None where a config has a `batch_sampler`
    return statistics.mean(sizes) if isinstance(sizes, Sequence) else sizes


def training_pipeline(dataset: Mapping[str, Any]) -> list[Any]:
    """Return all steps that a training image passes: of the data set, or of the first of several, and of those around it."""
    if dataset.get('datasets'):
        return training_pipeline(dataset['datasets'][0])
    inner = training_pipeline(dataset['dataset']) if 'dataset' in dataset else []
    return [*inner, *copy.deepcopy(list(dataset.get('pipeline') or ()))]


def pipeline_without_labels(pipeline: Sequence[Any]) -> list[Any]:
    """Return a pipeline without the steps that need labels, or other images with theirs; in ``transforms`` of steps too."""
    return [step for step in map(_without_labels, pipeline) if step is not None]


def _default_pipeline(runner: Runner) -> list[Any]:
    pipeline = training_pipeline(runner.cfg.train_dataloader.dataset)
    if not pipeline:
        raise ValueError('custom_hooks: the UnlabelledImagesHook needs a `pipeline` in its dataset')
    kept = pipeline_without_labels(pipeline)
    left_out = sorted({*_names(pipeline)} & {*MIXING, *BOXES})
    if left_out:
        text = f'unlabelled images pass the training pipeline without {", ".join(left_out)}'
        print_log(f'{KEY}: {text}, which need boxes or other images; a `pipeline` may have others', logger='current')
    return kept


def _without_labels(step: Any) -> Any:
    if isinstance(step, (list, tuple)):
        return pipeline_without_labels(step)
    if not isinstance(step, Mapping):
        return step
    if name_of(step['type']) in (*LABELS, *MIXING, *BOXES):
        return None
    step = dict(step)
    if 'cat_max_ratio' in step:  # looks for a crop whose labels are mixed
        step['cat_max_ratio'] = 1.0
    if 'transforms' in step:
        inner = step['transforms']
        inner = [inner] if isinstance(inner, Mapping) else inner
        if name_of(step['type']) == 'RandomChoice':  # as many choices as before, of which some do nothing
            inner = [[one] if isinstance(one, Mapping) else one for one in inner]
        step['transforms'] = pipeline_without_labels(inner)
    return step


def _names(pipeline: Iterable[Any]) -> Iterator[str]:
    """Yield the names of steps, and of those in their ``transforms``."""
    for step in pipeline:
        if isinstance(step, (list, tuple)):
            yield from _names(step)
        elif isinstance(step, Mapping):
            yield name_of(step['type'])
            inner = step.get('transforms', ())
            yield from _names([inner] if isinstance(inner, Mapping) else inner)


def _readers(dataset: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the configs of the data sets that others stand around."""
    inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else [])
    for one in inner:
        yield from _readers(one)
    if not inner:
        yield dataset


def _check_first(dataset: Any) -> None:
    """Raise a ConfigError, before the training, if an image cannot pass the pipeline without labels."""
    try:
        with forked_random_state(cuda=False):
            packed = dataset[Draw(0, 0)]
    except ConfigError:
        raise
    except Exception as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        steps = [frame.f_locals['t'] for frame in frames if frame.f_code is Compose.__call__.__code__]
        if not steps:
            raise
        raise ConfigError(
            f': its step {type(steps[-1]).__name__} cannot be applied to an image without labels ({sentence_of(error)}): '
            'give the images a pipeline without it',
            'pipeline',
        ) from error
    if not isinstance(packed, Mapping) or not {'inputs', 'data_samples'} <= packed.keys():
        raise ConfigError(' must end with a step that packs, PackDetInputs or PackSegInputs say', 'pipeline')

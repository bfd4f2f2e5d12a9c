"""A data set whose random transforms can be played again: every variant of every image has a seed of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kddense.errors import ConfigError
from kddense.random_state import fixed_random_state
from kddense.registry import DATASETS, Plain

from ._decoded_once import DecodedOnce
from ._replay import check_replays
from ._wrapped import WrappedDataset
from .samplers import Draw

VARIANT = 'kddense_variant'  # in the metainfo of a data sample: which variant of which image it is, as plain data
# What says where images lie, and not what becomes of them.
PLACES = ('data_root', 'ann_file', 'data_prefix', 'backend_args', 'lazy_init', 'serialize_data')


@DATASETS.register_module()
class VariantDataset(WrappedDataset):
    """Gives every image a fixed number of variants, one for each pass, and the random transforms of each a seed of its own.

    Mosaic, MixUp, crops, flips and colours are drawn alike whenever a variant is drawn, in every process, worker and run;
    the random numbers of the code around it do not move. As many variants as the run has epochs are, in distribution, what
    a run without this wrapper draws; fewer are repeated, in turn. The ``sampler``, whose ``views`` are variants that follow
    each other behind one decoding, is a ``kddense.VariantSampler`` or, in
    iteration-based loops, a ``kddense.InfiniteVariantSampler``.

    Args:
        dataset: Config of the data set: that of the base config.
        variants: How many variants an image has, at least 1.
        seed: Of all variants. It is the data's own, not the run's: runs with other seeds draw the same variants, in
            another order.

    Raises:
        ValueError: If ``variants`` is below 1, or a transform cannot be played again; the message names it.

    Example:
        >>> train_dataloader = dict(
        ...     sampler=dict(type='kddense.VariantSampler'),
        ...     dataset=dict(
        ...         _delete_=True, type='kddense.VariantDataset', variants=4, dataset=_base_.train_dataloader.dataset))
    """

    def __init__(self, dataset: Mapping[str, Any], variants: int = 1, seed: int = 0) -> None:
        if variants < 1:
            raise ValueError(f'variants must be at least 1, got {variants}: as many as epochs, or a part of them')
        if seed < 0:
            raise ValueError(f'seed must be at least 0, got {seed}')
        self.variants = variants
        self.seed = seed
        super().__init__(dataset)
        self._decoded = DecodedOnce(self.dataset)
        self._pipeline = _hash(json.dumps(_without_places(dataset), sort_keys=True, default=repr).encode())
        self.full_init()
        check_replays(self)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an image as the data set does.

        Args:
            index: Of the image, with its pass: a :class:`Draw`.

        Raises:
            ValueError: If the sampler does not say which pass it is.
        """
        if not isinstance(index, Draw) and self.variants > 1:
            raise ConfigError(
                "must be of the type 'kddense.VariantSampler', or 'kddense.InfiniteVariantSampler' in place of an "
                'InfiniteSampler: they say which variant is drawn; and other data sets (ConcatDataset, RepeatDataset) stand '
                'inside of the kddense.VariantDataset',
                owner='train_dataloader.sampler',
            )
        variant = getattr(index, 'number', 0) % self.variants
        return self.drawn(int(index), variant, again=getattr(index, 'again', False))

    def drawn(self, index: int, variant: int, again: bool = False) -> dict[str, Any]:
        """Return one variant of one image; ``again`` if another one of the same image comes next."""
        with fixed_random_state(self.seed_of(index, variant), cuda=False):
            results = self.as_packed(self._decoded.draw(index, again))
        results['data_samples'].set_metainfo({VARIANT: self._described(results, index, variant)})
        return results

    def seed_of(self, index: int, variant: int) -> int:
        """Return the seed of one variant of one image, the same on every machine."""
        return int(_hash(f'{self.seed} {index} {variant}'.encode())[:8], 16)

    def _described(self, results: Mapping[str, Any], index: int, variant: int) -> dict[str, Any]:
        return dict(
            image=index,
            variant=variant,
            images=len(self),
            variants=self.variants,
            seed=self.seed,
            pipeline=self._pipeline,
            pixels=pixels_of(results),
        )

    @staticmethod
    def plain(config: Mapping[str, Any], place: str) -> Plain:
        """Return the data set without this wrapper; see :class:`kddense.registry.Plain`."""
        return Plain((config['dataset'],), 'every pass draws anew')


def pixels_of(results: Mapping[str, Any]) -> str:
    """Return a hash of all images that a pipeline gave: the student's, and those that it kept for teachers.

    Raises:
        ConfigError: If it gave no single image.
    """
    if not isinstance(results['inputs'], Tensor):
        raise ConfigError(
            f'gives {type(results["inputs"]).__name__}s of images, where a kddense.VariantDataset needs one image',
            'dataset.pipeline',
            VariantDataset.config_key,
        )
    digest = hashlib.blake2b(digest_size=16)
    for image in (results['inputs'], *_kept_images(results['data_samples'].metainfo)):
        array = np.ascontiguousarray(image.numpy() if isinstance(image, Tensor) else image)
        digest.update(f'{array.dtype} {array.shape}'.encode())
        digest.update(array.data)
    return digest.hexdigest()


def _kept_images(metainfo: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the images in a sample's metainfo, by the names of their keys."""
    for key in sorted(metainfo):
        if isinstance(metainfo[key], (np.ndarray, torch.Tensor)) and metainfo[key].ndim >= 2:
            yield metainfo[key]


def _without_places(config: Any) -> Any:
    """Copy a config without what may differ between machines."""
    if isinstance(config, Mapping):
        return {key: _without_places(value) for key, value in config.items() if key not in PLACES}
    if isinstance(config, (list, tuple)):
        return [_without_places(value) for value in config]
    return config


def _hash(contents: bytes) -> str:
    return hashlib.blake2b(contents, digest_size=8).hexdigest()

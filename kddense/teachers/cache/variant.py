"""Which variants of which images a batch holds, and the names under which what is said of them is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kddense.datasets import VARIANT
from kddense.errors import ConfigError
from kddense.exchange import Batch

from .question import Division


def described(batch: Batch, image: int, name: str) -> Mapping[str, Any]:
    """Return which variant of which image one of a batch is, see :class:`kddense.VariantDataset`.

    Args:
        batch: What the student was given.
        image: Its number in the batch.
        name: What messages call the teacher.

    Raises:
        ConfigError: If the data set does not say.
    """
    metainfo = batch.data_samples[image].metainfo if batch.data_samples else {}
    if VARIANT not in metainfo:
        labelled = not metainfo.get('unlabelled')
        sampler = (
            ", with a sampler of the type 'kddense.VariantSampler' or 'kddense.InfiniteVariantSampler'"
            if labelled
            else ''
        )
        raise ConfigError(
            f'must be a kddense.VariantDataset around the data set{sampler}: the answers of {name} are kept, and an image '
            'must be drawn again as it was',
            owner='train_dataloader.dataset' if labelled else 'custom_hooks.UnlabelledImagesHook.dataset',
        )
    return metainfo[VARIANT]


def keys_of(division: Division, batch: Batch, exact: bool, whose: str, name: str) -> list[str]:
    """Return for each image of a batch the name under which its answer is kept.

    Args:
        division: What is asked.
        batch: What the student was given.
        exact: Whether last bits count, which the number of images in the batch may move.
        whose: What tells teachers, pipelines and versions apart: several that begin at once may share a folder unawares.
        name: What messages call the teacher.
    """
    images = len(batch.inputs)
    common = [whose, division.what, list(batch.inputs.shape[-2:]), images if exact else 0]
    return [
        _hash([*common, described(batch, image, name)['pixels'], list(sample.metainfo.get('img_shape', ()))])
        for image, sample in enumerate(batch.data_samples)
    ]


def _hash(parts: list[Any]) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()

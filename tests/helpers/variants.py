"""Batches whose images say which variants they are, as a VariantDataset's do."""

from __future__ import annotations

import copy

from kddense.datasets.variants import VARIANT, pixels_of


def as_variants(data, variants=1, images=None, **about):
    """Return a copy of a batch of a data loader whose data samples say which variants they are."""
    data = copy.deepcopy(data)
    for number, (inputs, sample) in enumerate(zip(data['inputs'], data['data_samples'], strict=True)):
        pixels = pixels_of(dict(inputs=inputs, data_samples=sample))
        said = dict(image=number, variant=0, images=images or len(data['inputs']), variants=variants, seed=0)
        sample.set_metainfo({VARIANT: dict(said, pipeline='p', pixels=pixels) | about})
    return data

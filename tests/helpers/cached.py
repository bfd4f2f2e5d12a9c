"""Configs of toy trainings on variants of images, with a teacher whose answers are kept or one that is asked."""

from __future__ import annotations

import copy

NO_VALIDATION = ('val_cfg', 'val_dataloader', 'val_evaluator')
SAMPLERS = {'DefaultSampler': 'kddense.VariantSampler', 'InfiniteSampler': 'kddense.InfiniteVariantSampler'}


def on_variants(config, variants=2, **options):
    """Return a copy of a training config as a user would change it: a wrapped data set and another sampler."""
    config = copy.deepcopy(config)
    loader = config.train_dataloader
    loader.sampler.type = SAMPLERS[loader.sampler.type]
    loader.dataset = dict(type='kddense.VariantDataset', dataset=loader.dataset, variants=variants, **options)
    for key in NO_VALIDATION:
        config[key] = None
    return config


def with_cache(config, folder, **options):
    """Return a copy of a distilling config whose teacher is asked once about each variant."""
    config = copy.deepcopy(config)
    config.model.teacher = dict(type='kddense.CachedTeacher', folder=str(folder), **config.model.teacher, **options)
    return config

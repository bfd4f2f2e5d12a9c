"""Many students, one teacher: what teachers say of each variant of an image is kept, by whichever run asks first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kddense.configs import is_distiller
from kddense.errors import ConfigError
from kddense.registry import name_of
from kddense.teachers import is_one_teacher
from kddense.training.settings import add_import, has_hook, hooks_of

SAMPLERS = {
    'DefaultSampler': 'kddense.VariantSampler',
    'InfiniteSampler': 'kddense.InfiniteVariantSampler',
}
CHANNELS_LAST = 'ChannelsLastHook'  # teachers compute in that format too, which moves last bits
KEPT = ('CachedTeacher', 'VariantDataset', 'VariantSampler', 'InfiniteVariantSampler')


def share_teacher(config: Config, variants: int, folder: Path) -> None:
    """Let a config draw so many variants of each image, and keep what its teachers say of them.

    Images without labels that a hook adds are drawn so too. Runs of one folder share the variants and the answers. They
    differ in the student's first weights, in the order of the images, and in what the configs differ in. A plain config's
    images are drawn in the same way, so that it can be compared.

    Args:
        config: A training config, changed in place.
        variants: Of each image; as many as epochs are, in distribution, the images of a run without this.
        folder: Where answers go, each teacher's into a folder of its own.

    Raises:
        ConfigError: If the images are drawn by another sampler than the stock ones.
    """
    loader = config.train_dataloader
    sampler = loader.get('sampler') or {}
    name = name_of(sampler.get('type', 'DefaultSampler'))
    if name not in (*SAMPLERS, *KEPT):
        raise ConfigError(
            f'.type: --share-teacher draws images by {" or ".join(SAMPLERS)}, got {name}', 'train_dataloader.sampler'
        )
    sampler['type'] = SAMPLERS.get(name, f'kddense.{name}')
    loader.sampler = sampler
    drawn = [loader, *hooks_of(config, 'UnlabelledImagesHook')]
    for one in drawn:
        if name_of(one['dataset']['type']) not in KEPT:
            one['dataset'] = dict(type='kddense.VariantDataset', variants=variants, dataset=one['dataset'])
    if is_distiller(config.model) and config.model.get('teacher'):
        places = (config, config.model, config.model.get('student') or {})
        images = [*(one['dataset'] for one in drawn), *(place.get('data_preprocessor') for place in places)]
        others = [CHANNELS_LAST] if has_hook(config, CHANNELS_LAST) else []
        config.model.teacher = _kept(config.model.teacher, images + others, folder)
    add_import(config)


def _kept(teacher: Mapping[str, Any], images: Sequence[Any], folder: Path) -> dict[str, Any]:
    """Return the config of one teacher, or of several by name, whose answers are kept; ``images`` is what moves them too."""
    if not is_one_teacher(teacher):
        return {name: _kept(one, images, folder) for name, one in teacher.items()}
    name = name_of(teacher.get('type', 'FrozenTeacher'))
    if name in KEPT:
        return dict(teacher)
    # One folder holds one teacher's answers about one set of images.
    text = json.dumps([teacher, *images], sort_keys=True, default=str)
    kept = dict(type='kddense.CachedTeacher', folder=str(folder / hashlib.sha256(text.encode()).hexdigest()[:10]))
    own = {key: value for key, value in teacher.items() if key != 'type'}
    return {**kept, **own} if name == 'FrozenTeacher' else {**kept, 'teacher': dict(teacher)}

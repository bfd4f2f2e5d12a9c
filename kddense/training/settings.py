"""What two runs must share to stand in one table: data, splits, sizes, batches."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from kddense.registry import name_of


def setting_of(config: Config) -> dict[str, Any]:
    """Return what a training config says of its data, as plain JSON values.

    Args:
        config: A training config of mmdet or mmseg.

    Returns:
        ``train`` and ``test``: the annotation files, folders and sizes that each reads, and the images in a batch; those
        without labels that a hook adds are ``unlabelled``.
    """
    train, test = (side_of(config, side) for side in ('train', 'test'))
    added = hooks_of(config, 'UnlabelledImagesHook')
    if added and 'batch_size' in train:
        train['unlabelled'] = sum(round(hook.get('ratio', 1.0) * train['batch_size']) for hook in added)
    return {'train': train, 'test': test}


def side_of(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what the loader of ``'train'``, ``'val'`` or ``'test'`` reads; see :func:`setting_of`."""
    loader = config.get(f'{name}_dataloader') or {}
    side: dict[str, Any] = {'data': sorted(set(_places(loader))), 'sizes': list(_sizes(loader))}
    if 'batch_size' in loader:
        side['batch_size'] = loader['batch_size']
    return side


def _places(node: Any) -> Iterator[str]:
    for data in _datasets(node):
        root = str(data.get('data_root') or '')
        places = [data.get('ann_file') or '', *(data.get('data_prefix') or {}).values()]
        yield from (_join(root, place) for place in places if place)


def _datasets(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        if 'pipeline' in node and ('ann_file' in node or 'data_prefix' in node):
            yield node
        for child in node.values():
            yield from _datasets(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _datasets(child)


def _join(root: str, place: str) -> str:
    return f'{root.rstrip("/")}/{place}' if root and not place.startswith(('/', 'data/')) else place


def _sizes(loader: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sizes that the pipelines make, ``'Resize 240x180'``, in their order."""
    for data in _datasets(loader):
        for transform in data['pipeline']:
            size = transform.get('scale') or transform.get('crop_size')
            if size is not None:
                yield f'{transform["type"]} {"x".join(map(str, size)) if isinstance(size, (list, tuple)) else size}'


def steps_of(config: Config) -> tuple[int, str]:
    """Return how long a config trains, and in which unit, ``'iterations'`` or ``'epochs'``."""
    loop = config.train_cfg
    if loop.get('max_iters'):
        return int(loop.max_iters), 'iterations'
    return int(loop.max_epochs), 'epochs'


def stretched(config: Config, steps: int) -> Config:
    """Return a copy that trains for so many steps, with its schedule stretched; a warm-up that fits stays as long as it was.

    Args:
        config: A training config.
        steps: Iterations, or epochs, whichever its loop counts. Schedules that count the other stay as they are.
    """
    config = copy.deepcopy(config)
    before, unit = steps_of(config)
    config.train_cfg['max_iters' if unit == 'iterations' else 'max_epochs'] = steps
    if config.train_cfg.get('val_interval') == before:
        config.train_cfg.val_interval = steps
    checkpoint = config.get('default_hooks', {}).get('checkpoint', {})
    if checkpoint.get('interval') == before:
        checkpoint.interval = steps
    schedulers = config.get('param_scheduler') or []
    groups = schedulers.values() if isinstance(schedulers, Mapping) else [schedulers]
    for group in groups:
        one_after_another = group if isinstance(group, (list, tuple)) else [group]
        own = [one for one in one_after_another if one.get('by_epoch', True) == (unit == 'epochs')]
        _stretch(own, before, steps)
    return config


def _stretch(schedulers: Sequence[dict[str, Any]], before: int, after: int) -> None:
    """Stretch what counts the loop's steps, one after another."""
    warm_ups = {one['end'] for one in schedulers if not one.get('begin') and one.get('end', before) < before}
    kept = warm_ups if max(warm_ups, default=0) < after else set()

    def place(step: int) -> int:
        return step if step in kept or step > before else round(step * after / before)

    for one in schedulers:
        span = min(one.get('end', before), before) - one.get('begin', 0)
        one.update({key: place(one[key]) for key in ('begin', 'end') if key in one})
        new_span = min(one.get('end', after), after) - one.get('begin', 0)
        for key in ('T_max', 'total_steps', 'step_size'):
            if key in one:
                one[key] = after if one[key] == before else max(1, round(one[key] * new_span / span))
        for key in ('milestones', 'periods'):
            if key in one:
                one[key] = [max(1, round(length * after / before)) for length in one[key]]


def hooks_in(config: Mapping[str, Any]) -> list[Any]:
    """Return the hooks of a config, as they are written."""
    return [*(config.get('default_hooks') or {}).values(), *(config.get('custom_hooks') or [])]


def hooks_of(config: Mapping[str, Any], name: str) -> list[Any]:
    """Return those of a config's hooks that are of a type, with a scope or without."""
    typed = [one for one in hooks_in(config) if isinstance(one, Mapping) and 'type' in one]
    return [one for one in typed if name_of(one['type']) == name]


def has_hook(config: Mapping[str, Any], name: str) -> bool:
    """Tell whether one of a config's hooks is of a type."""
    return bool(hooks_of(config, name))


def continue_bit_for_bit(config: Config) -> None:
    """Let a run of a config end as it would have if it is cut off and resumed: see :class:`kddense.RandomStateHook`."""
    if not has_hook(config, 'RandomStateHook'):
        config.merge_from_dict({'default_hooks.random_state': dict(type='kddense.RandomStateHook')})
    add_import(config)


def add_import(config: Config) -> None:
    """Let a config import kddense, whose parts it names."""
    imports = config.get('custom_imports') or dict(imports=[], allow_failed_imports=False)
    names = [imports['imports']] if isinstance(imports['imports'], str) else list(imports['imports'])
    config.custom_imports = {**imports, 'imports': names if 'kddense' in names else [*names, 'kddense']}

"""What keeps two trainings from being compared: all that differs between them besides what is to be judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from kddense.training.settings import side_of, steps_of

from .contents import Entrant


def unequal(entrant: Entrant, plain: Entrant, longer_is_meant: bool = False, split: str = 'test') -> list[str]:
    """Return what a student has other than the plain student it is compared with, a clause each; none if that is fair.

    Args:
        entrant: The student.
        plain: The one it is compared with.
        longer_is_meant: Whether the plain student trains longer on purpose, for as much time: lengths are not compared.
        split: The images that both are measured on, ``'val'`` or ``'test'``.
    """
    if entrant.run.config is None or plain.run.config is None:
        return ['whether both trained alike is not known, for want of a config']
    pair = entrant.run.config, plain.run.config
    found = [*_unequal_models(entrant, plain), *_unequal_data(*pair, split), *_unequal_steps(*pair, longer_is_meant)]
    seeds = [seed_of(one) for one in (entrant, plain)]
    if seeds[0] != seeds[1]:
        found.append(f'seed {seeds[0]} instead of {seeds[1]}')
    for one in (entrant, plain):
        if one.run.is_interrupted:
            found.append(f'{one.title} did not train to its end')
    if entrant.logged != plain.logged:
        found.append('figures of a log beside measured ones')
    return found


def _unequal_models(entrant: Entrant, plain: Entrant) -> Iterator[str]:
    if entrant.config is None or plain.config is None:
        return
    before, after = (_plain(one.config.model) for one in (plain, entrant) if one.config is not None)
    if before != after:
        sizes = [f'{one.costs.parameters / 1e6:.2f} M parameters' for one in (entrant, plain) if one.costs]
        counts = f': {" instead of ".join(sizes)}' if len(sizes) == 2 and sizes[0] != sizes[1] else ''
        yield f'another model ({", ".join(_differing(before, after))}){counts}'
    starts = [one.run.config.get('load_from') for one in (entrant, plain) if one.run.config is not None]
    if starts[0] != starts[1]:
        yield f'other weights to start from: {starts[0]} instead of {starts[1]}'


def _unequal_data(own: Config, plain: Config, split: str) -> Iterator[str]:
    for side, name in (('train', 'training'), (split, 'validation' if split == 'val' else split)):
        after, before = (side_of(config, side) for config in (own, plain))
        for key, what in (('data', 'data'), ('sizes', 'sizes')):
            if after[key] != before[key]:
                instead = f'{_listed(after[key])} instead of {_listed(before[key])}'
                yield f'other {what} in {name}: {instead}'
        if side == 'train' and after.get('batch_size') != before.get('batch_size'):
            yield f'batches of {after.get("batch_size")} instead of {before.get("batch_size")} images'


def _unequal_steps(own: Config, plain: Config, longer_is_meant: bool) -> Iterator[str]:
    lengths = [_length(config) for config in (own, plain)]
    if lengths[0] != lengths[1] and not longer_is_meant:
        yield f'{lengths[0]} instead of {lengths[1]}'
    rates = [_optimiser(config) for config in (own, plain)]
    for key in dict.fromkeys((*rates[0], *rates[1])):
        values = [rate.get(key, 'none') for rate in rates]
        if values[0] != values[1]:
            yield f'{"learning rate" if key == "lr" else key} {values[0]} instead of {values[1]}'
    schedules = [_plain(config.get('param_scheduler')) for config in (own, plain)]
    if lengths[0] == lengths[1] and _of_student(schedules[0]) != _of_student(schedules[1]):
        yield 'another schedule of the learning rate'


def _length(config: Config) -> str:
    if not config.get('train_cfg'):
        return 'no training'
    steps, unit = steps_of(config)
    return f'{steps} {unit}'


def _optimiser(config: Config) -> dict[str, Any]:
    """Return how the student's weights are updated; what objectives have beside it is theirs."""
    wrapper = config.get('optim_wrapper') or {}
    found = dict(_plain(wrapper.get('optimizer') or {}))
    found['optimiser'] = found.pop('type', None)
    for key in ('clip_grad', 'accumulative_counts', 'paramwise_cfg', 'dtype'):
        if wrapper.get(key) is not None:
            found[key] = _plain(wrapper[key])
    return found


def _of_student(schedule: Any) -> Any:
    return schedule.get('student', schedule) if isinstance(schedule, Mapping) else schedule


def seed_of(entrant: Entrant) -> str:
    """Return the seed as the log has it, else as the config has it."""
    config = entrant.run.config or {}
    fallback = (config.get('randomness') or {}).get('seed')
    return str(entrant.run.environment.get('seed') or fallback)


def _differing(before: Any, after: Any, place: str = '') -> list[str]:
    """Return the places where two models differ, the outermost that say enough, three at most."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return [] if before == after else [place]
    found: list[str] = []
    for key in dict.fromkeys((*before, *after)):
        inner = f'{place}.{key}' if place else key
        found.extend(_differing(before.get(key), after.get(key), inner))
    return [*found[:3], f'and {len(found) - 3} more'] if len(found) > 3 and not place else found


def _listed(values: list[str]) -> str:
    return ', '.join(values) or 'none'


def _plain(value: Any) -> Any:
    """Return plain dicts and lists, which compare by what they hold."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value

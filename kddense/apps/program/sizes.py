"""Models of other sizes: wider, narrower, deeper, or between two."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, Registry

from kddense.configs import find_config, plain_model, read_config_file
from kddense.errors import ConfigError
from kddense.options import default_of, fits, no_such_key, shown

WIDTHS = (
    'channels',
    'feat_channels',
    'in_channels',
    'out_channels',
    'base_channels',
    'stem_channels',
    'fc_out_channels',
)
DEPTHS = ('depth', 'stacked_convs', 'num_convs', 'deepen_factor', 'depths')
KNOWN_DEPTHS = {'ResNet': (18, 34, 50, 101, 152), 'ResNetV1c': (18, 34, 50, 101, 152), 'VGG': (11, 13, 16, 19)}


def resized(written: str | Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the model that a link's ``student`` stands for.

    Args:
        written: A config, whose model is taken as it is; or ``dict(between=(A, B), at=0.5, by='width')``: the model
            between those of two configs of one structure, ``at`` 0 that of A and at 1 that of B. ``by`` says which sizes
            are taken between, ``'width'`` (channels), ``'depth'`` or ``'both'``; the other ones are A's. Channels lie
            between on a logarithmic scale, the narrowest ones on multiples of 8 (of their greatest common divisor, if that
            is smaller; of 4 and so on, where only the ends' own would be left), the others in proportion; depths of a
            backbone that has only some are the nearest of those. A size that one config leaves to its class is the class's.
        where: The config key that messages name.

    Raises:
        ConfigError: If the two models are of different structures, or equal.
    """
    if isinstance(written, str):
        return _model_of(_config_of(written, where))
    known = ('between', 'at', 'by')
    for key in written:
        if key not in known:
            raise ConfigError(no_such_key(key, known), where)
    ends, at, by = written.get('between'), written.get('at', 0.5), written.get('by', 'width')
    if not isinstance(ends, (list, tuple)) or len(ends) != 2 or not all(isinstance(one, str) for one in ends):
        raise ConfigError(f'.between must be two configs, got {ends!r}', where)
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not 0 <= at <= 1:
        raise ConfigError(f'.at must be a number from 0 to 1, got {at!r}', where)
    if by not in ('width', 'depth', 'both'):
        raise ConfigError(f".by must be 'width', 'depth' or 'both', got {by!r}", where)
    configs = [_config_of(one, f'{where}.between') for one in ends]
    first, last = map(_model_of, configs)
    with MODELS.switch_scope_and_registry(configs[0].get('default_scope')) as registry:
        ends = _with_sizes_of(last, first, registry), _with_sizes_of(first, last, registry)
    return between(*ends, at, by, where)


def between(first: Mapping[str, Any], last: Mapping[str, Any], at: float, by: str, where: str = '') -> dict[str, Any]:
    """Return the config of a model between two; see :func:`resized`."""
    differing = list(_differences(first, last, '', where))
    chosen = {'width': WIDTHS, 'depth': DEPTHS, 'both': WIDTHS + DEPTHS}[by]
    moved = [one for one in differing if one[0].rpartition('.')[2].partition('[')[0] in chosen]
    if not moved:
        raise ConfigError(f'.between: the two models do not differ in {"size" if by == "both" else by}', where)
    for key, one, other in moved:
        if not _is_between(key, one, other):
            advice = 'name a config of your own' if None not in (one, other) else 'write it in both'
            raise ConfigError(
                f'.between: {key} is {shown(one)} in the one and {shown(other)} in the other: there is nothing between; '
                f'{advice}',
                where,
            )
    config = Config(dict(model=copy.deepcopy(dict(first))))
    factors = _factors([pair for key, *ends in moved if not _is_depth(key) for pair in _pairs(*ends)], at)
    for key, one, other in moved:
        if _is_depth(key):
            value = _depths(config.model, key, one, other, at)
        else:
            value = _widths(one, other, factors)
        config.merge_from_dict({f'model.{key.replace("[", ".").replace("]", "")}': value})
    return config.model.to_dict()


def _config_of(file: str, where: str) -> Config:
    config = read_config_file(find_config(file), where)
    if 'model' not in config:
        raise ConfigError(f": '{file}' holds no model", where)
    return config


def _model_of(config: Config) -> dict[str, Any]:
    return Config(plain_model(config)).to_dict()


def _with_sizes_of(other: Any, model: Any, registry: Registry) -> Any:
    """Return a model that names all sizes that the other one does: what its parts have where their config is silent."""
    if _is_list_of_dicts(model) and _is_list_of_dicts(other) and len(model) == len(other):
        return [_with_sizes_of(*pair, registry) for pair in zip(other, model, strict=True)]
    if not isinstance(model, Mapping) or not isinstance(other, Mapping):
        return model
    filled = {name: _with_sizes_of(other.get(name), one, registry) for name, one in model.items()}
    for name in (other.keys() - model.keys()) & {*WIDTHS, *DEPTHS}:
        kind = registry.get(str(model.get('type')))
        filled[name] = default_of(kind, name) if kind else None
    return filled


def _differences(first: Any, last: Any, key: str, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the places of all values that differ, with both."""
    if isinstance(first, Mapping) and isinstance(last, Mapping):
        if first.get('type') != last.get('type'):
            raise ConfigError(
                f'.between: {key or "model"} is a {first.get("type")} in the one and a {last.get("type")} in the other: '
                'there is nothing between; name a config of your own',
                where,
            )
        for name in first.keys() & last.keys():
            yield from _differences(first[name], last[name], f'{key}.{name}' if key else str(name), where)
    elif _is_list_of_dicts(first) and _is_list_of_dicts(last) and len(first) == len(last):
        for index, pair in enumerate(zip(first, last, strict=True)):
            yield from _differences(*pair, f'{key}[{index}]', where)
    elif first != last:
        yield key, first, last


def _is_list_of_dicts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(one, Mapping) for one in value)


def _is_depth(key: str) -> bool:
    return key.rpartition('.')[2] in DEPTHS


def _is_between(key: str, one: Any, other: Any) -> bool:
    """Tell whether there is something between two sizes: numbers, or lists of as many."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(_is_between(key, *pair) for pair in zip(one, other, strict=True))
    if _is_depth(key):
        return fits(one, float) and fits(other, float)
    return all(fits(size, int) and size > 0 for size in (one, other))


def _pairs(one: Any, other: Any) -> Iterator[tuple[int, int]]:
    """Yield the numbers of two sizes, which may be lists."""
    if isinstance(one, Sequence) and isinstance(other, Sequence) and len(one) == len(other):
        for pair in zip(one, other, strict=True):
            yield from _pairs(*pair)
    else:
        yield one, other


def _factors(pairs: Sequence[tuple[int, int]], at: float) -> dict[Fraction, Fraction]:
    """Return by what to multiply channels, by how the two ends differ.

    The narrowest layer decides for all that differ as much, or a backbone's base would no longer fit what reads its stages.
    """
    narrowest: dict[Fraction, tuple[int, int]] = {}
    for one, other in pairs:
        ratio = Fraction(other, one)
        narrowest[ratio] = min((one, other), narrowest.get(ratio, (one, other)))
    return {ratio: Fraction(_width(*ends, at), ends[0]) for ratio, ends in narrowest.items()}


def _width(one: int, other: int, at: float) -> int:
    """Return channels between two: no end's own, where there are others."""
    wanted, step = one ** (1 - at) * other**at, math.gcd(one, other, 8)
    while step > 1 and 0 < at < 1 and step * round(wanted / step) in (0, one, other):
        step //= 2
    return max(step, step * round(wanted / step))


def _widths(one: Any, other: Any, factors: Mapping[Fraction, Fraction]) -> Any:
    if isinstance(one, Sequence):
        return [_widths(*pair, factors) for pair in zip(one, other, strict=True)]
    return round(one * factors[Fraction(other, one)])


def _depths(model: Any, key: str, one: Any, other: Any, at: float) -> Any:
    if isinstance(one, Sequence) and isinstance(other, Sequence) and len(one) == len(other):
        return [_depths(model, key, *pair, at) for pair in zip(one, other, strict=True)]
    return _depth(model, key, one, other, at)


def _depth(model: Any, key: str, one: float, other: float, at: float) -> float:
    wanted = one + (other - one) * at
    holder = model
    for name in key.split('.')[:-1]:
        holder = holder[name]
    known = KNOWN_DEPTHS.get(str(holder.get('type', '')).rpartition('.')[2])
    if key.endswith('.depth') and known:
        return min(known, key=lambda depth: abs(depth - wanted))
    return round(wanted) if isinstance(one, int) else wanted

"""Tries of weights: each config's, times the same few factors as every other's, and which of them came out best."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from kddense.configs import find_config, is_distiller, read_config_file
from kddense.distiller.written import objectives_of
from kddense.errors import ConfigError, within
from kddense.registry import MODELS
from kddense.training.settings import add_import

from .statistics import sign_of


@dataclass(frozen=True)
class Try:
    """A config with other weights.

    Attributes:
        config: The config that it was made of.
        factor: What its weights were multiplied with.
        file: Where it is.
    """

    config: str
    factor: float
    file: str


def write_tries(configs: Sequence[str], factors: Sequence[float], folder: Path) -> list[Try]:
    """Write each config once for each factor.

    Args:
        configs: That distil.
        factors: Above 0.
        folder: Where the files go: ``<config>_x<factor>.py``.

    Raises:
        ConfigError: If one does not distil, or a weight is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tries = []
    for path in configs:
        config = read_config_file(find_config(path))
        for factor in factors:
            file = folder / f'{Path(path).stem}_x{factor:g}.py'
            with within(path):
                weighed(config, factor).dump(file)
            tries.append(Try(path, factor, str(file)))
    return tries


def weighed(config: Config, factor: float) -> Config:
    """Return a copy of a config with the weight of each objective multiplied, whichever form it has.

    Args:
        config: A training config whose model is a :class:`kddense.Distiller`.
        factor: Of all weights. What objectives learn themselves, and the student's own losses, are as they were.

    Raises:
        ConfigError: If it has no objectives, or a weight is none.
    """
    config = copy.deepcopy(config)
    if not is_distiller(config.model) or not config.model.get('objectives'):
        raise ConfigError(' is missing: tries are of the weights of a config that distils', 'model.objectives')
    add_import(config)  # of recipes, which import kddense as they are read
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmengine')):
        config.model.objectives = {
            name: _weighed(name, objective, factor)
            for name, objective in objectives_of(config.model.objectives).items()
        }
    return config


def _weighed(name: str, objective: Mapping[str, Any], factor: float) -> dict[str, Any]:
    with within(f'model.objectives.{name}', objective):
        built = MODELS.build(dict(objective))  # says what is wrong with a weight, and what it is by default
    weight = objective.get('weight')
    return {**objective, 'weight': _times(built.schedule.value if weight is None else weight, factor)}


def _times(weight: Any, factor: float) -> Any:
    """Multiply a number, a percentage, or what of a schedule is a weight."""
    if isinstance(weight, Mapping):
        return {key: _times(value, factor) if key in ('value', 'end_value') else value for key, value in weight.items()}
    if isinstance(weight, str):
        return f'{float(weight.strip().removesuffix("%")) * factor:g}%'
    return weight * factor


def choose(contents: dict[str, Any], tries: Sequence[Try], seeds: Sequence[int], failed: Sequence[str]) -> list[str]:
    """Name the best try of each config in a table of tries: the one with the best mean over the seeds.

    A config of which not all tries are there has none: every method is given as many. One that failed, as a loss became
    infinite, say, counts as a try.

    Args:
        contents: A table of the tries' files, see :func:`kddense.apps.measure.table.make_table`. Its rows then have the
            config that was tried and its ``factor``, and ``tries`` has ``factors``, ``seeds``, ``failed`` and ``chosen``,
            a factor by config.
        tries: All of them.
        seeds: That every try must have.
        failed: The files of those that failed.

    Returns:
        A sentence for each config without a choice.
    """
    made = {one.file: one for one in tries}
    for row in contents['rows']:
        if row['config'] in made:
            row.update(factor=made[row['config']].factor, config=made[row['config']].config)
    factors = list(dict.fromkeys(one.factor for one in tries))
    lost = {(made[file].config, made[file].factor) for file in failed}
    chosen, faults = {}, []
    for config in dict.fromkeys(one.config for one in tries):
        whole = [
            row
            for row in contents['rows']
            if row['config'] == config and 'factor' in row and set(seeds) <= set(row['seeds'])
        ]
        ended = {row['factor'] for row in whole} | {factor for name, factor in lost if name == config}
        if len(ended) < len(factors):
            faults.append(
                f'{config}: {len(ended)} of {len(factors)} tries are whole, so none is chosen: every method has as many'
            )
        elif whole:
            chosen[config] = max(whole, key=lambda row: _mean(row, seeds))['factor']
    contents['tries'] = {
        'factors': factors,
        'seeds': sorted(set(seeds)),
        'failed': [{'config': config, 'factor': factor} for config, factor in sorted(lost)],
        'chosen': chosen,
    }
    return faults


def _mean(row: Mapping[str, Any], seeds: Sequence[int]) -> float:
    return sign_of(row['metric']) * statistics.mean(row['scores'][str(seed)] for seed in set(seeds))

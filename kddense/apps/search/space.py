"""What is searched: choices of widths, depths, resolutions over a config, and what each comes to."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config

from kddense.apps.command_line import change_config
from kddense.configs import find_config, is_distiller, read_config_file
from kddense.errors import ConfigError, within
from kddense.files import value_digest
from kddense.options import check_no_misspelling, faults
from kddense.training.inputs import inputs_in
from kddense.training.settings import continue_bit_for_bit, stretched

STUDENT = 'student.'
LIMITS = ('latency', 'multiply_adds', 'parameters')
KEYS: Mapping[str, Any] = {
    'trials': int,
    'steps': int,
    'validations': int,
    'seed': int,
    'metric': str | None,
    'limit': Mapping | None,
    'omega': float | None,
}


@dataclass(frozen=True)
class Search:
    """What a search file says.

    Attributes:
        config: A training config; of one that distils, the student is varied.
        space: By name of what is varied, its choices: by name, changes to the config. Keys that begin with ``student.``
            are the student's own.
        trials: How many students are trained, of all that there are if they are fewer.
        steps: Iterations, or epochs, of each: a short training, with the schedule compressed.
        validations: How often each is validated on the way, so that poor ones end early.
        metric: What decides; the first of the validation's own by default.
        limit: The most that a student may cost, by one of :data:`LIMITS`: milliseconds, billions, millions.
        omega: Of a student over the limit: the metric is multiplied by (cost / limit)^omega, -0.07 in the paper; ``None``
            leaves it out untrained.
        seed: Of trainings and of the search.
        options: Changes to the config, by dotted key, of all trials.
    """

    config: str
    space: Mapping[str, Mapping[str, Mapping[str, Any]]]
    trials: int = 20
    steps: int = 100
    validations: int = 4
    metric: str | None = None
    limit: Mapping[str, float] | None = None
    omega: float | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many students there are."""
        return math.prod(len(choices) for choices in self.space.values())

    @property
    def digest(self) -> str:
        """Of all that a study's trials must share, what is in the config and in the files that it names among that."""
        config = read_config_file(find_config(self.config), 'config').to_dict()
        own = [
            config,
            dict(inputs_in(config)),
            self.space,
            self.steps,
            self.validations,
            self.metric,
            self.limit,
            self.omega,
            self.seed,
            self.options,
        ]
        return value_digest(own)[:12]


def read_search(file: str, options: Mapping[str, Any] | None = None) -> Search:
    """Read a search file.

    Args:
        file: A path, or package::path.
        options: Changes to the config that it names, by dotted key.

    Raises:
        ConfigError: If something does not fit; the message begins with the key.
    """
    written = Config(dict(read_config_file(find_config(file)))).to_dict()
    check_no_misspelling(written, ('config', 'space', *KEYS))
    if 'options' in written:
        raise ConfigError(': give changes to every trial as --cfg-options, or write them into the config', 'options')
    if not isinstance(written.get('config'), str):
        raise ConfigError(f'must name a training config, got {written.get("config")!r}', 'config')
    space = written.get('space')
    if not isinstance(space, Mapping) or not space:
        raise ConfigError(f'must be a dict of what is varied, got {space!r}', 'space')
    for name, choices in space.items():
        if not isinstance(choices, Mapping) or not choices:
            raise ConfigError(f'must be a dict of changes by name, got {choices!r}', f'space.{name}')
        for choice, changes in choices.items():
            if not isinstance(choice, str) or not isinstance(changes, Mapping):
                raise ConfigError(f'must have texts as names and dicts of changes, got {choice!r}', f'space.{name}')
    given = {key: written[key] for key in KEYS if key in written}
    for key, value in given.items():
        for place, fault in faults(value, KEYS[key], key):
            raise ConfigError(fault, place)
        if KEYS[key] is int and key != 'seed' and value < 1:
            raise ConfigError(f'must be at least 1, got {value}', key)
    limit = given.get('limit')
    if limit is not None:
        if len(limit) != 1 or next(iter(limit)) not in LIMITS:
            raise ConfigError(f'must name one of {", ".join(LIMITS)}, got {limit!r}', 'limit')
        most = next(iter(limit.values()))
        if isinstance(most, bool) or not isinstance(most, (int, float)) or not 0 < most < math.inf:
            raise ConfigError(f'must be a number above 0, got {limit!r}', 'limit')
    omega = given.get('omega')
    if omega is not None and not -math.inf < omega <= 0:
        raise ConfigError(f'must be at most 0, or students over the limit would be preferred, got {omega}', 'omega')
    return Search(config=written['config'], space=space, options=options or {}, **given)


def config_of(search: Search, chosen: Mapping[str, str], with_teacher: bool = True, short: bool = True) -> Config:
    """Return the config that a choice comes to.

    Args:
        search: The search.
        chosen: A choice of each name.
        with_teacher: Whether it learns from the teacher, or trains alone.
        short: Whether for the trial, or for its whole training.

    Raises:
        ConfigError: If a change does not fit.
    """
    config = copy.deepcopy(read_config_file(find_config(search.config), 'config'))
    distils = is_distiller(config.model)
    alone = distils and not with_teacher
    if alone:
        config.model = config.model.student
    change_config(config, _of_student(search.options) if alone else dict(search.options))
    for name, choice in chosen.items():
        with within(f'space.{name}.{choice}'):
            changes = {_placed(key, distils): one for key, one in search.space[name][choice].items()}
            config.merge_from_dict(_of_student(changes) if alone else changes)
    config.randomness = {**config.get('randomness', {}), 'seed': search.seed}
    if short:
        config = stretched(config, search.steps)
        every = max(1, search.steps // search.validations)
        config.train_cfg.val_interval = every
        config.default_hooks.checkpoint.interval = every
        config.default_hooks.checkpoint.max_keep_ckpts = 1
    continue_bit_for_bit(config)
    return config


def _placed(key: str, distils: bool) -> str:
    if not key.startswith(STUDENT):
        return key
    return f'{"model.student" if distils else "model"}.{key.removeprefix(STUDENT)}'


def _of_student(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what changes come to without a distiller: those of its teacher and objectives to nothing."""
    inner = f'model.{STUDENT}'
    return {
        key.replace(inner, 'model.', 1): one
        for key, one in changes.items()
        if key.startswith(inner) or not key.startswith('model.')
    }

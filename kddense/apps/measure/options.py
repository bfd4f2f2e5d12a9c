"""What ``--cfg-options`` changes in the configs of a table: the plain student's and those that distil into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config, DictAction

from kddense.apps.command_line import change_config, option_fault
from kddense.configs import find_config, is_distiller, read_config_file
from kddense.errors import ConfigError


def parsed(options: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` options as a dict, values as mmengine reads them.

    Raises:
        ConfigError: If one is no ``key=value``.
    """
    for option in options:
        if fault := option_fault(option):
            raise ConfigError(f'argument --cfg-options: {fault}')
    pairs = (option.partition('=') for option in options)
    return {key: DictAction._parse_iterable(value) for key, _, value in pairs}


def read_with(path: str, options: Mapping[str, Any], key: str = '') -> Config:
    """Return the config of a row, changed by the options of its table; ``key`` is the argument that names it."""
    return with_options(read_config_file(find_config(path), key), options)


def with_options(config: Config, options: Mapping[str, Any]) -> Config:
    """Return the config, changed; what changes a teacher comes to nothing in a config that has none."""
    plain = not (config.get('model') and is_distiller(config.model))
    change_config(config, {key: one for key, one in options.items() if not (plain and _of_a_teacher(key))})
    return config


def _of_a_teacher(key: str) -> bool:
    return key.startswith('model.teacher.')

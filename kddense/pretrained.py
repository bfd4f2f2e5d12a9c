"""Configs of models that begin with weights of others, and the same without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from kddense.configs import read_config
from kddense.registry import TEACHERS, name_of


def pretrained_in(config: Any, key: str = '') -> bool:
    """Tell whether a model's config names weights to begin with: an ``init_cfg`` of the type ``Pretrained``."""
    if _names_weights(key, config):
        return True
    if isinstance(config, Mapping):
        return any(pretrained_in(value, name) for name, value in config.items())
    return isinstance(config, (list, tuple)) and any(map(pretrained_in, config))


def without_pretrained(config: Any) -> Any:
    """Return a copy of a config whose models begin with random weights; mmdet's builders read it by attributes."""
    if isinstance(config, (Mapping, Config)):
        kept = {key: None if _names_weights(key, value) else without_pretrained(value) for key, value in config.items()}
        return ConfigDict(kept)
    if not isinstance(config, (list, tuple)):
        return config
    return type(config)(without_pretrained(value) for value in config if not _names_weights('', value))


def untrained(teacher: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a teacher, or of several by name, that begins with random weights and needs no file."""
    if not {'type', 'config', 'checkpoint'} & teacher.keys():
        return {name: untrained(one) for name, one in teacher.items()}
    teacher = uncached(teacher)
    changed = dict(teacher)
    if 'config' in teacher:
        changed['config'] = without_pretrained(read_config(teacher['config'], 'teacher'))
    if 'checkpoint' in teacher or ('config' in teacher and 'type' not in teacher):
        changed['checkpoint'] = None
    if 'pretrained' in teacher:  # of timm
        changed['pretrained'] = False
    if 'members' in teacher:  # of an ensemble
        changed['members'] = [untrained(one) for one in teacher['members']]
    return changed


def uncached(teacher: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of a teacher; of one whose answers are kept on disk, that of the teacher that computes them."""
    beneath = getattr(TEACHERS.get(str(teacher.get('type'))), 'beneath', None)
    return teacher if beneath is None else beneath(teacher)


def _names_weights(key: str, value: Any) -> bool:
    if isinstance(value, Mapping):
        return name_of(value.get('type')) in ('Pretrained', 'PretrainedInit')
    return key == 'pretrained' and isinstance(value, str)

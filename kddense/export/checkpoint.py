"""The student's weights out of a run's checkpoint, and the facts about the run that stay with them."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from kddense.configs import require_library
from kddense.random_state import forked_random_state
from kddense.registry import MODELS

from .errors import first_sentence
from .source import Source

KEPT_META = ('epoch', 'iter', 'mmengine_version', 'dataset_meta')


def load_student(settings: Mapping[str, Any], source: Source, ema: bool) -> nn.Module:
    """Build the plain student in eval mode, and load its weights, every one of them.

    Args:
        settings: Its config.
        source: Where its weights are from.
        ema: Load the averaged weights in place of the trained ones.

    Raises:
        ValueError: If it cannot be built, or config and weights do not fit together.
        ImportError: If the library that it is written for is not installed.
    """
    student = _build(settings, f'the student of {source.config_file}')
    weights = _weights_in(source, ema)
    try:
        student.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        fault = _misfits(student, weights) or first_sentence(error)
        raise ValueError(f'{source.checkpoint} does not fit the config {source.config_file}: {fault}') from error
    return student


def _build(settings: Mapping[str, Any], what: str) -> nn.Module:
    config = Config(copy.deepcopy(dict(settings)))
    scope = config.get('default_scope')
    require_library(config.model, scope, what)
    try:
        with forked_random_state(), DefaultScope.overwrite_default_scope(scope):
            return MODELS.build(config.model).eval()
    except Exception as error:  # the constructors of other libraries may fail in any way
        raise ValueError(f'{what} cannot be built: {first_sentence(error)}') from error


def _weights_in(source: Source, ema: bool) -> Mapping[str, Tensor]:
    """Return the trained weights, or the averaged ones: mmengine's ``EMAHook`` saves the two in each other's place."""
    saved = source.contents.get('state_dict', source.contents)
    swapped = source.contents.get('ema_state_dict')
    if not isinstance(saved, Mapping):
        raise ValueError(f'{source.checkpoint} holds no weights by name, but a {type(saved).__name__}')
    if ema and swapped is None:
        raise ValueError(f'{source.checkpoint} keeps no averaged weights, its run had no EMAHook: leave out --ema')
    if ema or swapped is None:
        return saved
    trained = OrderedDict((key, swapped.get(f'module.{key}', value)) for key, value in saved.items())
    trained._metadata = getattr(saved, '_metadata', {})  # type: ignore[attr-defined]
    return trained


def _misfits(student: nn.Module, weights: Mapping[str, Tensor]) -> str:
    own = student.state_dict()
    faults = {
        'missing': [key for key in own if key not in weights],
        'unexpected': [key for key in weights if key not in own],
        'of another shape': [key for key in own if key in weights and np.shape(weights[key]) != own[key].shape],
    }
    return '; '.join(f'{len(keys)} {kind}, such as {keys[0]}' for kind, keys in faults.items() if keys)


def plain_meta(contents: Mapping[str, Any], config: str) -> dict[str, Any]:
    """Return the meta of an exported checkpoint.

    Args:
        contents: The checkpoint of the run.
        config: The text of the plain student's config.
    """
    meta = contents.get('meta') or {}
    return dict({key: _as_data(meta[key]) for key in KEPT_META if key in meta}, cfg=config)


def _as_data(value: Any) -> Any:
    """Copy a value with nothing in it that ``weights_only=True`` would not load."""
    if isinstance(value, (np.ndarray, np.generic, Tensor)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {_as_data(key): _as_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(map(_as_data, value))
    return value if value is None or type(value) in (bool, int, float, str) else str(value)

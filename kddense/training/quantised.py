"""Whether a model computes with few bits: what its config and its checkpoint say of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import nn

from kddense.errors import ConfigError
from kddense.quantisation.scales import KEY
from kddense.registry import name_of

from .quantise import QuantiseHook
from .settings import hooks_in

HAS_NONE = 'the checkpoint is of a run with a kddense.QuantiseHook, and this config has none'


class FloatRunHook(Hook):
    """Of a run without a :class:`QuantiseHook`: says what becomes of a checkpoint that holds scales."""

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Say that the model computes in float.

        Raises:
            ConfigError: If the run goes on from the checkpoint, which would end its quantisation in the middle.
        """
        if KEY not in checkpoint or any(isinstance(hook, QuantiseHook) for hook in runner.hooks):
            return
        if runner._resume:
            raise ConfigError(
                f': {HAS_NONE}: keep the hook, or begin with the float weights by load_from alone', 'resume'
            )
        _say_float()


def compute_as_trained(student: nn.Module, config: Mapping[str, Any], contents: Mapping[str, Any]) -> None:
    """Let a student compute in tests as its run does: with few bits, if the config has a :class:`QuantiseHook`.

    Args:
        student: With the weights of the checkpoint.
        config: The config of the run.
        contents: The checkpoint, for what was learned and seen. If it is of few bits and the config is not, a warning
            says that the student computes in float.

    Raises:
        ValueError: If the checkpoint lacks what was learned or seen.
    """
    if not quantises(config):
        if KEY in contents:
            _say_float()
        return
    quantised = quantising_hook(config).attach(student)
    quantised.restore(contents.get(KEY) or {})
    quantised.train(False)


def quantising_hook(config: Mapping[str, Any]) -> QuantiseHook:
    """Return the hook by which a run quantises.

    Args:
        config: The config of the run.

    Raises:
        ValueError: If there is none.
    """
    own = quantising_config(config)
    if own is None:
        raise ValueError('the config of the run has no kddense.QuantiseHook, which says how weights are quantised')
    return QuantiseHook(**{key: value for key, value in own.items() if key not in ('type', 'priority')})


def quantising_config(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the config of the hook by which a run quantises; ``None`` if it does not."""
    return next(filter(is_quantising, hooks_in(config)), None)


def is_quantising(hook: Any) -> bool:
    """Tell whether a hook of a config is a :class:`QuantiseHook`."""
    return isinstance(hook, Mapping) and name_of(hook.get('type') or '') == QuantiseHook.__name__


def quantises(config: Mapping[str, Any]) -> bool:
    """Tell whether the student of a run computes with few bits."""
    return quantising_config(config) is not None


def drop_quantising(config: Config) -> None:
    """Let the model of a config compute in float."""
    if not quantises(config):
        return
    config.default_hooks = {
        name: hook for name, hook in (config.get('default_hooks') or {}).items() if not is_quantising(hook)
    }
    config.custom_hooks = [hook for hook in config.get('custom_hooks') or [] if not is_quantising(hook)]


def _say_float() -> None:
    print_log(f'{HAS_NONE}: the model computes in float', logger='current', level=logging.WARNING)

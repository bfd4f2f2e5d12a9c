"""Training under DeepSpeed: each process keeps a share of the optimiser's state (ZeRO stage 1), and of the gradients (2)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

import torch
from mmengine._strategy import deepspeed as stock
from mmengine.dist import all_reduce, broadcast
from mmengine.registry import OPTIMIZERS
from mmengine.runner.checkpoint import weights_to_cpu
from torch import Tensor, nn

from kddense.errors import ConfigError
from kddense.registry import STRATEGIES, name_of

from .strategies import WHERE
from .whole_checkpoints import STEP, WholeCheckpoints

USUAL, WRAPPER = 'OptimWrapper', 'DeepSpeedOptimWrapper'
OPTIONS = ('optimizer', 'paramwise_cfg', 'constructor')  # of an optim_wrapper, beside its type and clip_grad
LOW = ('fp16', 'bf16', 'amp')


@STRATEGIES.register_module()
class DeepSpeedStrategy(WholeCheckpoints, stock.DeepSpeedStrategy):
    """A strategy of mmengine's ``FlexibleRunner``: DeepSpeed's ZeRO, stages 1 and 2, in float32.

    Each process keeps a part of the optimiser's state, and in stage 2 of the gradients; weights and teachers are whole.
    Configs stay as they are: an ``OptimWrapper`` becomes DeepSpeed's, its ``clip_grad`` DeepSpeed's limit. Checkpoints
    are whole files, as of a run without it: stock tools load them, and a run resumes with any number of processes, with
    DeepSpeed or without.

    mmengine's own ``DeepSpeedStrategy`` writes a folder for each checkpoint; runs that distil refuse it.

    Args:
        zero_optimization: DeepSpeed's options of that name; ``stage`` is 1 or 2, 2 by default. Offloading was never tried.
        **kwargs: What else mmengine's strategy takes.

    Raises:
        ImportError: Without DeepSpeed.
        ValueError: If the stage is another, weights were of low precision, or the ``optim_wrapper`` has options that
            DeepSpeed does not have.

    Example:
        >>> runner_type = 'FlexibleRunner'
        >>> strategy = dict(type='kddense.DeepSpeedStrategy', zero_optimization=dict(stage=2))
    """

    config_key = WHERE
    config: dict[str, Any]

    def __init__(self, *, zero_optimization: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if stock.deepspeed is None:
            raise ImportError(f'{WHERE}: kddense.DeepSpeedStrategy needs DeepSpeed: pip install deepspeed')
        with patch.object(stock, 'register_deepspeed_optimizers', _register_optimisers):
            super().__init__(**kwargs)
        # Detectors train with SGD, which DeepSpeed calls untested.
        defaults = dict(zero_allow_untested_optimizer=True, train_micro_batch_size_per_gpu=1)
        self.config = {**defaults, **self.config}
        zero = {'stage': 2, **self.config.get('zero_optimization', {}), **(zero_optimization or {})}
        self.config['zero_optimization'] = zero
        _check(self.config)
        self._groups: list[list[nn.Parameter]] = []

    def build_optim_wrapper(self, optim_wrapper: Any, model: nn.Module | None = None) -> Any:
        """Build DeepSpeed's wrapper of what a config says of the usual one.

        Args:
            optim_wrapper: The config.
            model: Whose parameters are optimised.
        """
        options = {key: value for key, value in optim_wrapper.items() if value is not None}
        kind, clip = name_of(options.pop('type', USUAL)), options.pop('clip_grad', None)
        if kind not in (USUAL, WRAPPER):
            raise ConfigError(f": kddense.DeepSpeedStrategy takes an '{USUAL}', got {kind!r}", 'optim_wrapper.type')
        unknown = next((key for key in options if key not in OPTIONS), None)
        if unknown is not None:
            raise ConfigError(': DeepSpeed has no such option: leave it out', f'optim_wrapper.{unknown}')
        if clip is not None:
            self.config['gradient_clipping'] = _limit(clip)
        wrapper = super().build_optim_wrapper({'type': WRAPPER, **options}, model)
        self._groups = [
            list(group['params']) for group in wrapper.optimizer.param_groups
        ]  # before DeepSpeed takes them out
        return wrapper

    def _wrap_model(self, model: nn.Module) -> Any:
        for tensor in (*model.parameters(), *model.buffers()):
            broadcast(tensor.detach())
        # DeepSpeed's own way to send them fails where a parameter has no dimension.
        with patch.object(stock.deepspeed.DeepSpeedEngine, '_broadcast_model', lambda engine: None):
            return super()._wrap_model(model)

    def load_model_state_dict(self, state_dict: dict[str, Any], **kwargs: Any) -> None:
        """Take over weights, in the copies that DeepSpeed's optimiser changes too.

        Args:
            state_dict: That of a plain student, or of a run that distils.
            **kwargs: See mmengine's strategies.
        """
        super().load_model_state_dict(state_dict, **kwargs)
        if hasattr(self, 'optim_wrapper'):
            self.model.optimizer.refresh_fp32_params()

    def load_optim_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take this process's part of a whole state.

        Args:
            state_dict: Of one optimiser, of the same kind.
        """
        for (_, own, share, group), saved in zip(self._by_group(), state_dict['param_groups'], strict=True):
            group.update({key: value for key, value in saved.items() if key != 'params'})
            kept = self.model.optimizer.optimizer.state[share]
            for parameter, index in zip(own, saved['params'], strict=True):
                for key, value in state_dict['state'].get(index, {}).items():
                    _take(kept, key, value, parameter, share)
        super().load_optim_state_dict(state_dict)

    def _gather_model(self) -> dict[str, Any]:
        return weights_to_cpu(self.model.module.state_dict())

    def _gather_optimisers(self) -> dict[str, Any]:
        state, groups = {}, []
        for indices, own, share, group in self._by_group():
            kept = self.model.optimizer.optimizer.state.get(share, {})
            groups.append({**group, 'params': indices})
            for index, parameter in zip(indices, own, strict=True):
                if kept and parameter.requires_grad:
                    state[index] = {key: _whole(key, value, parameter) for key, value in kept.items()}
        return {**self.optim_wrapper.state_dict(), 'state': state, 'param_groups': groups}

    def _by_group(self) -> Iterator[tuple[list[int], list[nn.Parameter], Tensor, dict[str, Any]]]:
        """Yield of each group its parameters' numbers, its parameters, this process's share of them, and its options."""
        zero = self.model.optimizer
        numbers = itertools.count()
        for own, share, group in zip(
            self._groups, zero.single_partition_of_fp32_groups, zero.param_groups, strict=True
        ):
            yield list(itertools.islice(numbers, len(own))), own, share, group


def _check(config: Mapping[str, Any]) -> None:
    stage = config['zero_optimization']['stage']
    if stage not in (1, 2):
        raise ConfigError(
            f' must be 1 or 2, got {stage!r}: whole weights in parts are those of '
            "strategy = dict(type='kddense.FSDPStrategy')",
            f'{WHERE}.zero_optimization.stage',
        )
    for key in LOW:
        if key in config:
            raise ConfigError(
                ': weights of low precision would be saved and resumed as such: leave it out', f'{WHERE}.{key}'
            )


def _limit(clip: Mapping[str, Any]) -> float:
    """Return the greatest norm of all gradients together, which DeepSpeed takes for its limit."""
    if 'max_norm' not in clip or clip.get('norm_type', 2) != 2:
        raise ConfigError(
            ': DeepSpeed limits the usual norm of all gradients: give max_norm alone', 'optim_wrapper.clip_grad'
        )
    return clip['max_norm']


def _whole(key: str, value: Any, parameter: Tensor) -> Any:
    """Return all of what an optimiser keeps of a parameter; all processes take part."""
    if key == STEP or not isinstance(value, Tensor):
        return value
    whole = value.new_zeros(parameter.numel())
    for in_share, in_parameter in _places(parameter):
        whole[in_parameter] = value[in_share]
    all_reduce(whole)
    return whole.reshape(parameter.shape).cpu()


def _take(kept: dict[str, Any], key: str, value: Any, parameter: Tensor, share: Tensor) -> None:
    """Put this process's part of what an optimiser keeps of a parameter where it keeps it."""
    if key == STEP or not isinstance(value, Tensor):
        kept[key] = value
        return
    part = kept.setdefault(key, torch.zeros_like(share, requires_grad=False))
    for in_share, in_parameter in _places(parameter):
        part[in_share] = value.flatten()[in_parameter].to(part)


def _places(parameter: Any) -> Iterator[tuple[slice, slice]]:
    """Yield where this process's part of a parameter lies, in its share and in the parameter; nothing if it has none."""
    found = parameter._hp_mapping
    if found is not None:
        yield _slice(found.hp_fragment_address), _slice(found.lp_fragment_address)


def _slice(address: Any) -> slice:
    return slice(address.start, address.start + address.numel)


def _register_optimisers() -> list[str]:
    """Stand for mmengine's function of that purpose, which asks for optimisers that DeepSpeed 0.19 lacks, and works once."""
    from deepspeed.ops.adam import DeepSpeedCPUAdam, FusedAdam
    from deepspeed.ops.lamb import FusedLamb

    found = (DeepSpeedCPUAdam, FusedAdam, FusedLamb)
    for one in found:
        OPTIMIZERS.register_module(module=one, force=True)
    return [one.__name__ for one in found]

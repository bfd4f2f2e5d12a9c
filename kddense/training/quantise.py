"""A student that computes with weights of few bits, while its own stay the float ones that are trained and saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner
from torch import Tensor, nn

from kddense.errors import ConfigError, within
from kddense.quantisation import LearnedPointsQuantiser, WeightQuantiser, WeightSwap, axis_of, choose_layers, weight_of
from kddense.registry import HOOKS, MODELS, Plain, name_of

from .added_hook import AddedHook, student_of

KEY = 'quantised'  # in a checkpoint, where stock tools do not look


@HOOKS.register_module()
class QuantiseHook(AddedHook):
    """Lets convolutions and linear layers of the student compute with quantised weights, in training and in tests.

    The student's parameters stay the float weights under the same names: they are what the optimiser moves and what a
    checkpoint holds. Gradients pass the rounding, as the quantiser says. Teachers, peers and what objectives learn compute
    as ever; so do biases, norms, deformable convolutions, and attention that hands its weights to PyTorch's own function. A
    config with this hook tests the quantised student; ``kddense export --quantised`` writes its weights as they are rounded.

    Args:
        weights: The quantiser, such as ``dict(type='kddense.UniformQuantiser', bits=4)``.
        skip: Regular expressions of whole paths in the student: these parts compute as ever.
        ends: ``'float'`` leaves the first layer and the last ones of each head as they are, as the papers do;
            ``'quantised'`` does not.
        optimizer: Of what the quantiser learns, which :class:`kddense.LearnedPointsQuantiser` needs; the weights of
            quantised layers rest then. It steps whenever the student's does, and its rate is constant.

    Example:
        >>> default_hooks = dict(quantise=dict(
        ...     type='kddense.QuantiseHook', weights=dict(type='kddense.UniformQuantiser', bits=4)))
    """

    priority = 'VERY_HIGH'  # before others look at what the student computes

    def __init__(
        self,
        weights: Mapping[str, Any],
        skip: Sequence[str] = (),
        ends: Literal['float', 'quantised'] = 'float',
        optimizer: Mapping[str, Any] | None = None,
    ) -> None:
        self.quantiser = build_quantiser(weights)
        self.skip = tuple(skip)
        self.ends: str = ends
        self.optimizer_cfg = optimizer
        if isinstance(self.quantiser, LearnedPointsQuantiser) and optimizer is None:
            raise ValueError("optimizer is needed where points learn: dict(type='SGD', lr=1e-5, momentum=0.9)")
        if optimizer is not None and not self.quantiser.learns:
            raise ValueError(f'optimizer: {type(self.quantiser).__name__} learns nothing: remove it')
        self._swaps: list[WeightSwap] = []
        self._layers: dict[str, nn.Module] = {}
        self._optimizer: torch.optim.Optimizer | None = None
        self._loaded: Mapping[str, Any] | None = None
        self._scale = 1.0

    @staticmethod
    def plain(config: Mapping[str, Any], place: str) -> Plain:
        """Leave it out of the plain student's config, and say so."""
        return Plain(note='weights are the float ones; --quantised rounds them')

    def before_run(self, runner: Runner) -> None:
        """Check what stands beside this hook.

        Raises:
            ValueError: If the model is compiled.
        """
        super().before_run(runner)
        model = getattr(runner.model, 'module', runner.model)
        if runner.cfg.get('compile') or getattr(model, '_compiled', None) is not None:
            raise ValueError(
                'compile: the QuantiseHook exchanges weights in what runs uncompiled: remove one of the two'
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self._loaded = checkpoint.get(KEY) or {}

    def before_train(self, runner: Runner) -> None:
        """Begin to quantise; what learns begins with the student's weights, or where the checkpoint left off."""
        self.attach(student_of(runner.model))
        if not isinstance(self.quantiser, LearnedPointsQuantiser):
            return
        self._optimizer = OPTIMIZERS.build(dict(self.optimizer_cfg or {}, params=list(self.quantiser.parameters())))
        for wrapper in _wrappers(runner):
            wrapper.optimizer.register_step_pre_hook(self._rest)
        if runner._resume:
            self._restore(self._loaded, with_optimizer=True)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.quantiser.train()
        self.quantiser.iteration = runner.iter
        # The scaler may change its scale as soon as the student's optimiser has stepped.
        scaler = getattr(_wrappers(runner)[0], 'loss_scaler', None) if self._optimizer is not None else None
        self._scale = 1.0 if scaler is None else float(scaler.get_scale())

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self._optimizer is None or not _wrappers(runner)[0].should_update():
            return
        gradients = [_gradient_of(one) for one in self.quantiser.parameters()]
        for gradient in gradients:
            all_reduce(gradient, 'mean')
            gradient /= self._scale
        if all(bool(torch.isfinite(one).all()) for one in gradients):
            self._optimizer.step()
            self.quantiser.sort()  # type: ignore[operator]
        self._optimizer.zero_grad()

    def before_val(self, runner: Runner) -> None:
        self._begin_test(runner)

    def before_test(self, runner: Runner) -> None:
        self._begin_test(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if isinstance(self.quantiser, LearnedPointsQuantiser) and self._optimizer is not None:
            checkpoint[KEY] = dict(points=self.quantiser.learnt(), optimizer=self._optimizer.state_dict())

    def attach(self, student: nn.Module) -> None:
        """Let a student's layers compute with quantised weights, if they do not yet; what learns begins with its weights.

        Raises:
            ValueError: If ``skip`` or ``ends`` do not fit the student, or leave no layer.
        """
        if self._swaps:
            return
        self._layers = choose_layers(student, self.skip, self.ends)
        self.quantiser.begin({path: weight_of(layer) for path, layer in self._layers.items()})
        self._swaps = [WeightSwap(layer, path, self.quantiser) for path, layer in self._layers.items()]
        print_log(told_size(student, self._layers, self.quantiser), logger='current')

    def _begin_test(self, runner: Runner) -> None:
        is_training = self._optimizer is not None
        self.attach(student_of(runner.model))
        self.quantiser.eval()
        if self.quantiser.learns and not is_training:
            self._restore(self._loaded, with_optimizer=False)

    def _restore(self, loaded: Mapping[str, Any] | None, with_optimizer: bool) -> None:
        self.quantiser.restore(points_in(loaded))  # type: ignore[operator]
        if with_optimizer and self._optimizer is not None and loaded:
            self._optimizer.load_state_dict(dict(loaded['optimizer']))

    def _rest(self, *_: Any) -> None:
        """Before the student's optimiser steps: weights without a gradient are left alone."""
        for layer in self._layers.values():
            weight_of(layer).grad = None


def quantising_hook(config: Mapping[str, Any]) -> QuantiseHook:
    """Return the hook by which a run quantises.

    Args:
        config: The config of the run.

    Raises:
        ValueError: If there is none.
    """
    hooks = [*(config.get('default_hooks') or {}).values(), *(config.get('custom_hooks') or [])]
    for one in hooks:
        if isinstance(one, Mapping) and name_of(one.get('type') or '') == QuantiseHook.__name__:
            return QuantiseHook(**{key: value for key, value in one.items() if key not in ('type', 'priority')})
    raise ValueError('the config of the run has no kddense.QuantiseHook, which says how weights are quantised')


def build_quantiser(config: Mapping[str, Any]) -> WeightQuantiser:
    """Build the ``weights`` of a :class:`QuantiseHook`.

    Raises:
        ConfigError: If it does not fit.
    """
    if 'type' not in config:
        raise ConfigError(" needs the key 'type', a quantiser such as 'kddense.UniformQuantiser'", 'weights')
    with within('weights', config):
        quantiser = MODELS.build(dict(config))
        if not isinstance(quantiser, WeightQuantiser):
            raise ValueError(f'{type(quantiser).__name__} is no quantiser of weights')
    return quantiser


def points_in(loaded: Mapping[str, Any] | None) -> Mapping[str, Tensor]:
    """Return the learned points in what a checkpoint holds of a :class:`QuantiseHook`.

    Raises:
        ValueError: If there are none.
    """
    if not loaded or 'points' not in loaded:
        raise ValueError(
            'the checkpoint holds no learned points, which weights of the type kddense.LearnedPointsQuantiser need: '
            'give one that was trained with them'
        )
    found: Mapping[str, Tensor] = loaded['points']
    return found


def told_size(student: nn.Module, layers: Mapping[str, nn.Module], quantiser: WeightQuantiser) -> str:
    """Return in words how many bits the student's parameters take, with quantised weights and without."""
    everything = sum(one.numel() for one in student.parameters())
    quantised = sum(quantiser.bits_of(weight_of(one), axis_of(one)) for one in layers.values())
    rest = 32 * (everything - sum(weight_of(one).numel() for one in layers.values()))
    return (
        f'quantised weights: {len(layers)} layers in {quantised} bits, {rest} bits of other parameters; in float '
        f'{32 * everything}, {32 * everything / max(quantised + rest, 1):.2f} times as many'
    )


def _gradient_of(points: Tensor) -> Tensor:
    if points.grad is None:
        points.grad = torch.zeros_like(points)
    return points.grad


def _wrappers(runner: Runner) -> list[Any]:
    wrapper = runner.optim_wrapper
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]

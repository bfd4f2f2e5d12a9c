"""A student that computes with weights of few bits, while its own stay the float ones that are trained and saved."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner
from torch import Tensor, nn

from kddense.errors import ConfigError, within
from kddense.quantisation import ActivationQuantiser, LearningQuantiser, QuantisedStudent, WeightQuantiser, weight_of
from kddense.quantisation.scales import KEY
from kddense.registry import HOOKS, MODELS, Plain

from .added_hook import AddedHook, student_of

EXAMPLES = {'weights': 'kddense.UniformQuantiser', 'activations': 'kddense.MinMaxQuantiser'}
Quantiser = TypeVar('Quantiser', bound=nn.Module)


@HOOKS.register_module()
class QuantiseHook(AddedHook):
    """Lets convolutions and linear layers of the student compute with few bits, in training and in tests.

    The student's parameters stay the float weights under the same names: they are what the optimiser moves and what a
    checkpoint holds. Gradients pass the rounding, as the quantiser says. Teachers, peers and what objectives learn compute
    as ever; so do biases, norms, deformable convolutions, and attention that hands its weights to PyTorch's own function. A
    config with this hook tests the quantised student; ``kddense export --quantised`` writes its weights as they are rounded.

    Args:
        weights: The quantiser, such as ``dict(type='kddense.UniformQuantiser', bits=4)``.
        activations: What rounds the inputs of these layers, such as ``dict(type='kddense.MinMaxQuantiser', bits=8)``;
            ``None`` leaves them as they are.
        skip: Regular expressions of whole paths in the student: these parts compute as ever.
        ends: ``'float'`` leaves the first layer and the last ones of each head as they are, as the papers do;
            ``'quantised'`` does not.
        fold_norms: Round weights with the batch norm behind them folded, as deployment does: ``Q(w · γ / √(σ² + ε))`` with
            the running variance, and the layer's output divided by the factor again.
        optimizer: Of what the quantisers learn: :class:`kddense.LearnedPointsQuantiser`, :class:`kddense.LSQQuantiser` and
            :class:`kddense.LSQActivationQuantiser` need it. It steps whenever the student's does, at a constant rate. The
            weights of quantised layers rest while points learn.

    Example:
        >>> default_hooks = dict(quantise=dict(
        ...     type='kddense.QuantiseHook', weights=dict(type='kddense.UniformQuantiser', bits=4)))
    """

    works_sharded = False
    priority = 'VERY_HIGH'  # before others look at what the student computes

    def __init__(
        self,
        weights: Mapping[str, Any],
        activations: Mapping[str, Any] | None = None,
        skip: Sequence[str] = (),
        ends: Literal['float', 'quantised'] = 'float',
        fold_norms: bool = False,
        optimizer: Mapping[str, Any] | None = None,
    ) -> None:
        self.weights = build_quantiser(weights, 'weights', WeightQuantiser)
        self.activations = (
            None if activations is None else build_quantiser(activations, 'activations', ActivationQuantiser)
        )
        self.skip = tuple(skip)
        self.ends: str = ends
        self.fold_norms = fold_norms
        self.optimizer_cfg = optimizer
        learning = [one for one in (self.weights, self.activations) if one is not None and one.learns]
        if learning and optimizer is None:
            what = str(learning[0].name).removeprefix('learned ')
            raise ValueError(f"optimizer is needed where {what} learn: dict(type='SGD', lr=1e-5, momentum=0.9)")
        if optimizer is not None and not learning:
            raise ValueError(f'optimizer: {type(self.weights).__name__} learns nothing: remove it')
        self.quantised: QuantisedStudent | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._loaded: Mapping[str, Any] = {}
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
        quantised = self.attach(student_of(runner.model))
        _warn_of_emptied(quantised)
        learning = quantised.learning()
        if learning:
            parameters = [parameter for one in learning for parameter in one.parameters()]
            self._optimizer = OPTIMIZERS.build(dict(self.optimizer_cfg or {}, params=parameters))
        if isinstance(self.weights, LearningQuantiser) and self.weights.rests:
            for wrapper in _wrappers(runner):
                wrapper.optimizer.register_step_pre_hook(self._rest)
        if not runner._resume:
            return
        quantised.restore(self._loaded)
        if self._optimizer is not None and 'optimizer' in self._loaded:
            self._optimizer.load_state_dict(dict(self._loaded['optimizer']))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._student().begin_step(runner.iter)
        # The scaler may change its scale as soon as the student's optimiser has stepped.
        scaler = getattr(_wrappers(runner)[0], 'loss_scaler', None) if self._optimizer is not None else None
        self._scale = 1.0 if scaler is None else float(scaler.get_scale())

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self._optimizer is not None and _wrappers(runner)[0].should_update():
            self._step(self._optimizer)
        self._student().end_step()

    def before_val(self, runner: Runner) -> None:
        self._begin_test(runner)

    def before_test(self, runner: Runner) -> None:
        self._begin_test(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        kept = {} if self.quantised is None else self.quantised.state()
        if self._optimizer is not None:
            kept['optimizer'] = self._optimizer.state_dict()
        if kept:
            checkpoint[KEY] = kept

    def choose(self, student: nn.Module) -> QuantisedStudent:
        """Return a student's layers that compute with few bits; none does yet.

        Raises:
            ValueError: If ``skip`` or ``ends`` do not fit the student, or leave no layer.
        """
        return QuantisedStudent(student, self.weights, self.activations, self.skip, self.ends, self.fold_norms)

    def attach(self, student: nn.Module) -> QuantisedStudent:
        """Let a student's layers compute with few bits, if they do not yet; what learns begins with its weights.

        Raises:
            ValueError: If ``skip`` or ``ends`` do not fit the student, or leave no layer.
        """
        if self.quantised is None:
            self.quantised = self.choose(student)
            self.quantised.attach()
            print_log(self.quantised.told_size(), logger='current')
        return self.quantised

    def _student(self) -> QuantisedStudent:
        assert self.quantised is not None
        return self.quantised

    def _begin_test(self, runner: Runner) -> None:
        is_begun = self.quantised is not None
        quantised = self.attach(student_of(runner.model))
        if not is_begun:
            quantised.restore(self._loaded)
        quantised.train(False)

    def _step(self, optimizer: torch.optim.Optimizer) -> None:
        learning = self._student().learning()
        gradients = [_gradient_of(parameter) for one in learning for parameter in one.parameters()]
        for gradient in gradients:
            all_reduce(gradient, 'mean')
            gradient /= self._scale
        if all(bool(torch.isfinite(one).all()) for one in gradients):
            optimizer.step()
            for one in learning:
                one.tidy()
        optimizer.zero_grad()

    def _rest(self, *_: Any) -> None:
        """Before the student's optimiser steps: weights without a gradient are left alone."""
        for layer in self._student().layers.values():
            weight_of(layer.layer).grad = None


def build_quantiser(config: Mapping[str, Any], key: str, kind: type[Quantiser]) -> Quantiser:
    """Build a quantiser of a :class:`QuantiseHook`.

    Args:
        config: That of the quantiser.
        key: The option that has it: ``'weights'`` or ``'activations'``.
        kind: What it must be.

    Raises:
        ConfigError: If it does not fit.
    """
    if 'type' not in config:
        raise ConfigError(f" needs the key 'type', a quantiser such as '{EXAMPLES[key]}'", key)
    with within(key, config):
        quantiser = MODELS.build(dict(config))
        if not isinstance(quantiser, kind):
            raise ValueError(f'{type(quantiser).__name__} is no quantiser of {key}')
    return quantiser


def _warn_of_emptied(quantised: QuantisedStudent) -> None:
    emptied = quantised.emptied()
    if emptied:
        print_log(
            f'{len(emptied)} of {len(quantised.layers)} quantised layers round to zeros alone, such as {emptied[0]}, and '
            f'let nothing pass: {type(quantised.weights).__name__} has steps too large for these weights; give it more '
            'bits, begin with trained weights, or take one whose steps follow them, such as kddense.TernaryQuantiser',
            logger='current',
            level=logging.WARNING,
        )


def _gradient_of(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _wrappers(runner: Runner) -> list[Any]:
    wrapper = runner.optim_wrapper
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]

"""A student of few bits: its layers, what quantises them, and what a checkpoint keeps of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .activations import ActivationQuantiser
from .folding import axis_of, norms_behind
from .layers import QuantisedLayer, choose_layers, weight_of
from .learning import LearningQuantiser
from .quantisers import WeightQuantiser


class QuantisedStudent:
    """The layers of a student that compute with few bits. What learns begins with the student's weights.

    Args:
        student: The student; nothing of it changes before :meth:`attach`.
        weights: What quantises weights.
        activations: What quantises what layers are given; ``None`` for nothing.
        skip: See :func:`choose_layers`.
        ends: See :func:`choose_layers`.
        fold_norms: Whether weights are rounded with the batch norm behind them folded.

    Attributes:
        layers: By path in the student.

    Raises:
        ValueError: If ``skip`` or ``ends`` do not fit the student, or leave no layer.
    """

    def __init__(
        self,
        student: nn.Module,
        weights: WeightQuantiser,
        activations: ActivationQuantiser | None = None,
        skip: Sequence[str] = (),
        ends: str = 'float',
        fold_norms: bool = False,
    ) -> None:
        self.student = student
        self.weights = weights
        self.activations = activations
        chosen = choose_layers(student, skip, ends)
        self.norms = {path: norm for path, norm in norms_behind(student).items() if path in chosen and fold_norms}
        parts = dict(student.named_modules())
        self.layers = {
            path: QuantisedLayer(layer, path, weights, activations, parts.get(self.norms.get(path, '-')))
            for path, layer in chosen.items()
        }
        with torch.no_grad():
            weights.begin({path: layer.folded() for path, layer in self.layers.items()})
        if activations is not None:
            activations.begin(self.layers, weight_of(next(iter(chosen.values()))).device)

    def attach(self) -> None:
        """Let the layers compute with few bits."""
        for layer in self.layers.values():
            layer.attach()

    def remove(self) -> None:
        """Let the layers compute as ever again."""
        for layer in self.layers.values():
            layer.remove()

    def train(self, mode: bool = True) -> None:
        """Let the quantisers work as in training: activations are watched, and rounding may be stochastic."""
        for one in self._quantisers():
            one.train(mode)

    def begin_step(self, iteration: int) -> None:
        """Before each step of a training.

        Args:
            iteration: Its number, from 0.
        """
        self.train()
        for one in self._quantisers():
            one.iteration = iteration

    def end_step(self) -> None:
        """After each step of a training."""
        if self.activations is not None:
            self.activations.settle()

    def learning(self) -> list[Any]:
        """Return the quantisers that have parameters to train."""
        return [one for one in self._quantisers() if one.learns]

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: what was learned or seen, and how :func:`scales_of` finds the scales."""
        kept: dict[str, Any] = {}
        if isinstance(self.weights, LearningQuantiser):
            kept[self.weights.key] = self.weights.learnt()
        if self.activations is None:
            return kept
        steps = {
            path: self.activations.steps_of(path)._asdict() for path in self.layers if path in self.activations.known
        }
        layers = {path: self._record(path) for path in self.layers}
        kept[self.activations.key] = self.activations.learnt()
        return dict(kept, weights=self.weights.record(), inputs=steps, layers=layers)

    def restore(self, kept: Mapping[str, Any], activations: bool = True) -> None:
        """Take over what :meth:`state` returned.

        Args:
            kept: That.
            activations: Whether what was seen of activations is wanted.

        Raises:
            ValueError: If it lacks something, or is of other layers or bits.
        """
        if isinstance(self.weights, LearningQuantiser):
            self.weights.restore(kept.get(self.weights.key))
        if self.activations is not None and activations:
            self.activations.restore(kept.get(self.activations.key))

    @torch.no_grad()
    def round_weights(self) -> None:
        """Make the student's own weights those that it computes with."""
        for layer in self.layers.values():
            weight_of(layer.layer).copy_(layer.rounded())

    @torch.no_grad()
    def emptied(self) -> list[str]:
        """Return the layers whose weights all round to 0, though they are not: nothing of an image passes them."""
        rounded = ((path, weight_of(layer.layer), layer.rounded()) for path, layer in self.layers.items())
        return [path for path, weight, found in rounded if weight.any() and not found.any()]

    def told_size(self) -> str:
        """Return in words how many bits the student's parameters take, with quantised weights and without."""
        weights = {path: weight_of(layer.layer) for path, layer in self.layers.items()}
        everything = sum(one.numel() for one in self.student.parameters())
        quantised = sum(self.weights.bits_of(one, axis_of(self.layers[path].layer)) for path, one in weights.items())
        rest = 32 * (everything - sum(one.numel() for one in weights.values()))
        given = '' if self.activations is None else f', which are given {self.activations.bits} bits'
        return (
            f'quantised weights: {len(weights)} layers in {quantised} bits{given}, {rest} bits of other parameters; in '
            f'float {32 * everything}, {32 * everything / max(quantised + rest, 1):.2f} times as many'
        )

    def _quantisers(self) -> list[Any]:
        return [one for one in (self.weights, self.activations) if one is not None]

    def _record(self, path: str) -> dict[str, Any]:
        layer = self.layers[path]
        return dict(axis=layer.axis, norm=self.norms.get(path), eps=float(layer.norm.eps) if layer.norm else 0.0)

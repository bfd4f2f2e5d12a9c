"""Which layers of a student compute with few bits, and how they do: while they run, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from kddense.options import check_pattern
from kddense.taps import nearest

from .activations import ActivationQuantiser
from .folding import along, axis_of, fold_factor
from .quantisers import WeightQuantiser
from .straight_through import straight_through

# Names of the layers, or of stacks of them, by which heads of mmdet and mmseg give their predictions.
LAST = re.compile(
    r'(\w+_)?(cls|reg|seg|obj|logits|centerness|ctrness|iou|pred|score|shape|loc|offset|coeff|kernel|centers|depth|embed)'
    r'|(reppoints_)?\w+_out|vfnet_reg_refine|fc_reg_(cls|offset)|controller|conv_mask\w*|(cls|reg)_branches'
    r'|(heatmap|wh|offset)_head'
)
HEAD = re.compile(r'((?:roi_head\.)?(?!roi_head)\w*head)(?:\.\d+)*\.')
NUMBERS = re.compile(r'(\.\d+)+$')


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the convolutions and linear layers of a model by path.

    Attention that hands its weights to PyTorch's own function runs no layer: it has none here. Neither have deformable
    convolutions, whose operators take no other weight.
    """
    return {path: module for path, module in model.named_modules() if path and _is_layer(module)}


def _is_layer(module: nn.Module) -> bool:
    if not isinstance(module, (_ConvNd, nn.Linear)) or isinstance(module, NonDynamicallyQuantizableLinear):
        return False
    return module._parameters.get('weight') is not None  # a parametrised one has it elsewhere


def choose_layers(model: nn.Module, skip: Iterable[str], ends: str) -> dict[str, nn.Module]:
    """Return the layers whose weights are to be of few bits.

    Args:
        model: The student.
        skip: Regular expressions of whole paths: these layers, and those within these parts, stay as they are.
        ends: ``'float'`` leaves the first layer and the last ones of each head as they are, ``'quantised'`` does not.

    Raises:
        ValueError: If a pattern matches no part, the last layers of a head are not known, or no layer is left.
    """
    layers = layers_of(model)
    left = _skipped(model, layers, skip)
    if ends == 'float':
        left |= _ends(layers, left)
    chosen = {path: module for path, module in layers.items() if path not in left}
    if not chosen:
        raise ValueError(
            f'{type(model).__name__} has no layer to quantise: skip and ends leave out all of its {len(layers)} '
            'convolutions and linear layers'
        )
    return chosen


def _skipped(model: nn.Module, layers: Mapping[str, nn.Module], skip: Iterable[str]) -> set[str]:
    left: set[str] = set()
    paths = [path for path, _ in model.named_modules() if path]
    for pattern in skip:
        check_pattern(pattern, 'skip')
        found = {path for path in paths if re.fullmatch(pattern, path)}
        within = {path for path in layers if any(part in found for part in _parts(path))}
        if not within:
            raise ValueError(
                f"skip: '{pattern}' matches no convolution or linear layer of the student, nor a part that holds one"
                f'{nearest(pattern, [*layers, *paths])}'
            )
        left |= within
    return left


def _parts(path: str) -> list[str]:
    """Return a path, and those of all that it lies in."""
    names = path.split('.')
    return ['.'.join(names[: end + 1]) for end in range(len(names))]


def _ends(layers: Mapping[str, nn.Module], left: set[str]) -> set[str]:
    """Return the first layer, and the last ones of each head; a stack of layers that gives a prediction as a whole."""
    heads: dict[str, list[str]] = {}
    for path in layers:
        found = HEAD.match(path)
        heads.setdefault(found[1] if found else '', []).append(path)
    ends = set(heads.pop('', [])[:1])
    for head, paths in heads.items():
        last = {path for path in paths if LAST.fullmatch(NUMBERS.sub('', path).rpartition('.')[2])}
        if not last and not left & set(paths):
            raise ValueError(
                f'ends: which layers of {head} give its predictions is not known, it has {", ".join(paths[-4:])}: name '
                "them in skip, or set ends='quantised'"
            )
        ends |= last
    return ends


class QuantisedLayer:
    """Lets one layer compute with few bits: parameters, their names and the layer's type stay as they are.

    What it is given is rounded, and its weight exchanged, when the layer is called; the weight is restored when it returns,
    in whatever way it does. That also holds where activations are recomputed in the backward pass. A deep copy of the
    layer asks the same quantisers.

    Args:
        layer: The layer.
        path: Its path in the student.
        weights: What quantises its weight.
        activations: What quantises what it is given; ``None`` for nothing.
        norm: The batch norm that is folded into the weight before it is rounded; ``None`` for none. The layer's output is
            divided by the same factor again, so that the norm itself computes, and trains, as ever.
    """

    def __init__(
        self,
        layer: nn.Module,
        path: str,
        weights: WeightQuantiser,
        activations: ActivationQuantiser | None = None,
        norm: nn.Module | None = None,
    ) -> None:
        self.layer = layer
        self.path = path
        self.weights = weights
        self.activations = activations
        self.norm: Any = norm
        self.axis = axis_of(layer)
        self._factor: tuple[int, Tensor] | None = None
        self._floats: list[Tensor] = []
        self._handles: tuple[Any, ...] = ()

    def attach(self) -> None:
        """Let the layer compute with few bits."""
        self._handles = (
            self.layer.register_forward_pre_hook(self._exchange, with_kwargs=True),
            self.layer.register_forward_hook(self._restore, prepend=True, always_call=True),
        )

    def remove(self) -> None:
        """Let the layer compute as ever again."""
        for handle in self._handles:
            handle.remove()

    def folded(self) -> Tensor:
        """Return the layer's float weight, with its norm folded."""
        weight = weight_of(self.layer)
        factor = self.factor()
        return weight if factor is None else weight * factor

    def rounded(self) -> Tensor:
        """Return the weight that the layer computes with; its norm follows, and is not folded."""
        weight, factor = weight_of(self.layer), self.factor()
        if factor is None:
            return self.weights(weight, self.path, self.axis)
        if self.weights.straight:  # folding there and back has a gradient of 1, so that nothing need be recorded for it
            with torch.no_grad():
                rounded = self.weights(weight * factor, self.path, self.axis) / factor
            return straight_through(weight, rounded)
        return self.weights(weight * factor, self.path, self.axis) / factor

    def factor(self) -> Tensor | None:
        """Return by what folding multiplies the weight.

        Running statistics move while a training step runs, so that the first factor of an iteration serves all of it.
        """
        if self.norm is None:
            return None
        if not self.norm.training:
            self._factor = None
            return self._now()
        if self._factor is None or self._factor[0] != self.weights.iteration:
            self._factor = self.weights.iteration, self._now()
        return self._factor[1]

    def _now(self) -> Tensor:
        weight = weight_of(self.layer)
        factor = fold_factor(self.norm.weight, self.norm.running_var, self.norm.eps)
        return along(factor, weight, self.axis).to(weight.dtype)

    def _exchange(
        self, layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        given = self._given(args, named)
        rounded: Any = self.rounded()
        self._floats.append(weight_of(layer))
        layer._parameters['weight'] = rounded
        return given

    def _given(self, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self.activations is None:
            return None
        if not args:
            return args, {**named, 'input': self.activations(named['input'], self.path)}
        return (self.activations(args[0], self.path), *args[1:]), named

    def _restore(self, layer: nn.Module, args: Any, output: Any) -> None:
        if self._floats:
            weight: Any = self._floats.pop()
            layer._parameters['weight'] = weight

    def __deepcopy__(self, memo: dict[int, Any]) -> QuantisedLayer:
        return self


def weight_of(layer: nn.Module) -> Tensor:
    """Return the float weight of a layer that :func:`layers_of` found."""
    weight = layer._parameters['weight']
    assert weight is not None
    return weight

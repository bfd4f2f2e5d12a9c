"""The INT8 file of a run that learned its scales: QDQ nodes exactly where the run rounded, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kddense.quantisation.scales import LayerScales
from kddense.quantisation.steps import Steps

from .int8 import Int8Report, layers_of

NEAR = 1e-3  # of a channel's length: how far its weight in the file may be from a multiple of its own
BITS = 8


class _Weight(NamedTuple):
    """A layer's weight in the file: whole numbers, and a step for each channel of ``axis``."""

    whole: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int


def write_learned(
    source: Path, file: Path, scales: Mapping[str, LayerScales], weights: Mapping[str, Tensor]
) -> Int8Report:
    """Write the INT8 file of a float one, by the scales of a run.

    Args:
        source: The float file.
        file: The file to write.
        scales: Of each quantised layer, by its path: :func:`kddense.quantisation.scales_of`.
        weights: The student's, by name.

    Raises:
        RuntimeError: If the scales are not those of 8 bits, or of none of the layers of the file, or an observer of one of
            these saw nothing.
    """
    import onnx

    check_scales(scales)
    model = onnx.load(str(source))
    graph = _Graph(model.graph)
    layers = layers_of(model.graph)
    quantised = [
        node for node in list(model.graph.node) if node.name in layers and graph.quantise(node, scales, weights)
    ]
    if not quantised:
        raise RuntimeError(f'--int8: none of the {len(scales)} layers with scales is in {source.name}')
    graph.finish()
    onnx.checker.check_model(model)
    onnx.save(model, str(file))
    sizes = source.stat().st_size, file.stat().st_size
    return Int8Report(*sizes, len(quantised), len(layers) - len(quantised), images=0)


def check_scales(scales: Mapping[str, LayerScales]) -> None:
    """Raise a RuntimeError if a run's scales cannot stand in a file of 8 bits."""
    for path, layer in scales.items():
        if layer.weight is None:
            raise RuntimeError(
                f'--int8: the weight of {path} has buckets or points, not the even steps that ONNX needs: leave out --int8'
            )
        given = layer.input
        if given is not None and given.most - given.least < 2**BITS - 2:
            raise RuntimeError(
                f'--int8: the input of {path} has {given.most - given.least + 1} steps, not those of 8 bits: train with '
                'activations of bits=8, or leave out --int8'
            )


class _Graph:
    """The graph of an ONNX model, in which layers are quantised."""

    def __init__(self, graph: Any) -> None:
        from onnx import helper, numpy_helper

        self.graph = graph
        self.helper, self.numpy = helper, numpy_helper
        self.constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self.made: dict[tuple[Any, ...], str] = {}
        self.nodes: list[Any] = []  # before those that there are

    def quantise(self, node: Any, scales: Mapping[str, LayerScales], weights: Mapping[str, Tensor]) -> bool:
        """Let a layer compute with the scales of the run; tell whether it has any."""
        path = _path_of(node, self.constants[node.input[1]], scales, weights)
        if path is None:
            return False
        layer = scales[path]
        given = layer.input
        if given is None:
            raise RuntimeError(
                f'--int8: the observer of the layer {path} saw nothing: train, or calibrate with --quantised --calibrate, '
                'on images for which it runs, or name it in skip of the QuantiseHook'
            )
        weight = _quantised_weight(node, self.constants[node.input[1]], layer, weights[f'{path}.weight'])
        name = self._weight(node.input[1], weight)
        node.input[0] = self._rounded(node.input[0], given)
        if len(node.input) > 2 and node.input[2] in self.constants:
            node.input[2] = self._bias(node.input[2], weight, float(given.scale))
        node.input[1] = name
        return True

    def finish(self) -> None:
        """Put the nodes in an order in which each follows those that it reads, and drop weights that nothing reads."""
        pending = [*self.nodes, *self.graph.node]
        known = {value.name for value in self.graph.input} | {one.name for one in self.graph.initializer} | {''}
        inside = list(map(_read_by, pending))
        ordered: list[Any] = []
        while pending:
            ready = [index for index, names in enumerate(inside) if names <= known]
            for index in ready:
                ordered.append(pending[index])
                known |= set(pending[index].output)
            pending = [node for index, node in enumerate(pending) if index not in set(ready)]
            inside = [names for index, names in enumerate(inside) if index not in set(ready)]
        read = {name for node in ordered for name in node.input} | {value.name for value in self.graph.output}
        kept = [one for one in self.graph.initializer if one.name in read]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(ordered)
        self.graph.initializer.extend(kept)

    def _rounded(self, name: str, steps: Steps) -> str:
        """Return the name of a tensor after QuantizeLinear and DequantizeLinear."""
        key = (name, float(steps.scale), int(steps.zero_point), steps.least)
        if key not in self.made:
            start = f'{name}_{len(self.made)}'
            scale = self._constant(f'{start}_scale', np.float32(steps.scale))
            zero = self._constant(f'{start}_zero_point', _kind(steps)(int(steps.zero_point)))
            self._node('QuantizeLinear', [name, scale, zero], f'{start}_quantised')
            self.made[key] = self._node('DequantizeLinear', [f'{start}_quantised', scale, zero], f'{start}_rounded')
        return self.made[key]

    def _weight(self, name: str, weight: _Weight) -> str:
        if (name,) not in self.made:
            parts = (weight.whole, weight.scale, weight.zero_point)
            names = [
                self._constant(f'{name}_{what}', part)
                for what, part in zip(('whole', 'scale', 'zero'), parts, strict=True)
            ]
            self.made[(name,)] = self._node('DequantizeLinear', names, f'{name}_rounded', axis=weight.axis)
        return self.made[(name,)]

    def _bias(self, name: str, weight: _Weight, step: float) -> str:
        """Return the name of a bias in the steps of the products, which integer kernels add it to."""
        key = (name, step)
        if key not in self.made:
            scale = (weight.scale * step).astype(np.float32)
            whole = np.clip(np.round(self.constants[name].astype(np.float64) / scale), -(2**31), 2**31 - 1).astype(
                np.int32
            )
            start = f'{name}_{len(self.made)}'
            names = [
                self._constant(f'{start}_whole', whole),
                self._constant(f'{start}_scale', np.broadcast_to(scale, whole.shape)),
                self._constant(f'{start}_zero', np.zeros(whole.shape, np.int32)),
            ]
            self.made[key] = self._node('DequantizeLinear', names, f'{start}_rounded', axis=0)
        return self.made[key]

    def _constant(self, name: str, values: Any) -> str:
        self.graph.initializer.append(
            self.numpy.from_array(np.ascontiguousarray(values).reshape(np.shape(values)), name)
        )
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self.helper.make_node(kind, inputs, [output], name=f'{output}/{kind}', **attributes))
        return output


def _read_by(node: Any) -> set[str]:
    """Return the names that a node reads, those in its branches and loops included."""
    inner = [attribute.g for attribute in node.attribute if attribute.HasField('g')]
    read = set(node.input)
    for graph in inner:
        own = {name for one in graph.node for name in one.output} | {one.name for one in graph.initializer}
        read |= {name for one in graph.node for name in _read_by(one)} - own - {one.name for one in graph.input}
    return read


def _path_of(
    node: Any, held: np.ndarray, scales: Mapping[str, LayerScales], weights: Mapping[str, Tensor]
) -> str | None:
    """Return the path of the layer that a node is, by its weight; where several have the same one, by its name."""
    fitting = [path for path in scales if _ratio(node, held, weights[f'{path}.weight'], scales[path].axis) is not None]
    if len(fitting) < 2:
        return next(iter(fitting), None)
    name = '.'.join(_modules_of(node.name))
    return max(fitting, key=lambda path: (path.endswith(name), len(_common_end(path, name))))


def _modules_of(name: str) -> Iterator[str]:
    """Yield the parts of a module's path: in ``/detector/layer1/layer1.0/conv1/Conv`` the second has the first's name."""
    before = ''
    for part in name.split('/')[1:-1]:
        yield part.removeprefix(f'{before}.')
        before = part


def _common_end(first: str, second: str) -> str:
    pairs = zip(reversed(first), reversed(second), strict=False)
    end = ''
    for one, other in pairs:
        if one != other:
            break
        end += one
    return end


def _ratio(node: Any, held: np.ndarray, weight: Tensor, axis: int) -> Tensor | None:
    """Return by what each channel of a weight is multiplied in the file, which folds norms; ``None`` if it is another's."""
    values = torch.from_numpy(held.copy())
    values = values.T if _is_transposed(node) else values
    if values.shape != weight.shape:
        return None
    ours, theirs = (one.detach().float().movedim(axis, 0).flatten(1) for one in (weight, values))
    ratio = (ours * theirs).sum(1) / (ours * ours).sum(1).clamp(min=1e-30)
    far = (theirs - ratio[:, None] * ours).norm(dim=1) > NEAR * theirs.norm(dim=1)
    return None if far.any() else ratio


def _is_transposed(node: Any) -> bool:
    """Tell whether a matrix is held as ``(in, out)``, not as ``nn.Linear`` has it."""
    if node.op_type == 'Gemm':
        return not any(attribute.name == 'transB' and attribute.i for attribute in node.attribute)
    return node.op_type == 'MatMul'


def _quantised_weight(node: Any, held: np.ndarray, layer: LayerScales, weight: Tensor) -> _Weight:
    steps, axis = layer.weight, layer.axis
    ratio = _ratio(node, held, weight, axis)
    assert steps is not None
    assert ratio is not None
    shape = [-1 if dimension == axis else 1 for dimension in range(weight.dim())]
    channels = weight.shape[axis]
    factor = torch.ones(channels) if layer.factor is None else layer.factor.float()
    scale, zero = (one.detach().expand(channels) for one in (steps.scale.float(), steps.zero_point))
    whole = layer.whole(weight.detach().float() * factor.view(shape))
    left = ratio / factor  # what the file folds and the run did not
    if (left < 0).any():
        if zero.any():
            raise RuntimeError('--int8: a norm turns the sign of weights with affine steps: train with fold_norms=True')
        whole = whole * left.sign().view(shape)
    values = whole.T if _is_transposed(node) else whole
    kind = _kind(steps)
    return _Weight(
        whole=values.numpy().astype(kind),
        scale=(scale * left.abs()).clamp(min=1e-30).numpy().astype(np.float32),
        zero_point=zero.numpy().astype(kind),
        axis=1 - axis if _is_transposed(node) else axis,
    )


def _kind(steps: Steps) -> Any:
    return np.int8 if steps.least < 0 else np.uint8

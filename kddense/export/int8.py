"""The INT8 file beside a float one: QDQ nodes whose scales are calibrated on images.

Layers of the model are quantised: weights to signed 8 bits for each channel, activations to unsigned 8 bits for each
tensor. What turns their outputs into boxes, class maps and metres stays float, and so do the layers that predict, whose
errors nothing after them would mend.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .detectors.base import sizes_of
from .errors import first_sentence
from .onnx_file import OnnxFile

LAYERS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')
# What lies between layers, and is as good in 8 bits.
BETWEEN = ('Add', 'AveragePool', 'GlobalAveragePool', 'MaxPool', 'Relu', 'Resize')


@dataclass(frozen=True)
class Int8Report:
    """What became of a float file.

    Attributes:
        float_bytes: Its size.
        int8_bytes: The size of the INT8 file.
        layers: How many layers compute in 8 bits.
        left: How many do not: they predict, or the run left them float.
        images: How many images the scales are from; 0 if the run learned them.
    """

    float_bytes: int
    int8_bytes: int
    layers: int
    left: int
    images: int


def quantise_onnx(source: Path, file: Path, images: Iterable[tuple[Tensor, Tensor]]) -> Int8Report:
    """Write the INT8 file of a float one.

    Args:
        source: The float file.
        file: The file to write.
        images: What the scales are calibrated on: normalised images ``(1, 3, H, W)`` with heights and widths ``(1, 2)``.

    Raises:
        RuntimeError: If the float file has no layer that can be quantised.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model = onnx.load(str(source))
    graph = model.graph
    layers, predicting = layers_of(graph), predicting_layers(graph)
    between = [node.name for node in graph.node if node.op_type in BETWEEN and _is_in_a_module(node)]
    quantised = sorted(layers - predicting)
    if not quantised:
        raise RuntimeError(f'{source.name} has no layer to quantise: leave out --int8')
    reader = _Reader(images, sizes=any(value.name == 'sizes' for value in graph.input))
    with warnings.catch_warnings(), _quiet_log():
        warnings.simplefilter('ignore')
        quantize_static(
            str(source),
            str(file),
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*LAYERS, *BETWEEN],
            nodes_to_quantize=[*quantised, *between],
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            extra_options=dict(MatMulConstBOnly=True),
        )
    _say_the_same(model, file)
    return Int8Report(source.stat().st_size, file.stat().st_size, len(quantised), len(predicting), reader.given)


def check_runs(file: Path, size: tuple[int, int]) -> None:
    """Run a file on an image of zeros.

    Args:
        file: In 8 bits.
        size: Height and width of the image.

    Raises:
        RuntimeError: If onnxruntime cannot.
    """
    try:
        run = OnnxFile(file)
        images = torch.zeros(1, run.channels, *size)
        run(images, sizes_of(images) if run.takes_sizes else None)
    except Exception as error:  # onnxruntime has errors of its own
        raise RuntimeError(
            f'--int8: onnxruntime cannot run the file: {first_sentence(error.__cause__ or error)}'
        ) from error


def predicting_layers(graph: Any) -> set[str]:
    """Return the names of the layers between which and an output, or a suppression, there is no other layer.

    Args:
        graph: That of an ONNX model.
    """
    layers = layers_of(graph)
    makers = {output: node for node in graph.node for output in node.output}
    ends = [value.name for value in graph.output]
    ends += [name for node in graph.node if node.op_type == 'NonMaxSuppression' for name in node.input[:2]]
    found, seen = set(), set()
    while ends:
        node = makers.get(ends.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.name in layers:
            found.add(node.name)
        else:
            ends += node.input
    return found


def layers_of(graph: Any) -> set[str]:
    """Return the names of all layers with weights.

    Args:
        graph: That of an ONNX model.
    """
    weights = {weight.name for weight in graph.initializer}
    return {node.name for node in graph.node if node.op_type in LAYERS and node.input[1] in weights}


def _is_in_a_module(node: Any) -> bool:
    """Tell whether a node is of a module of the model, by its name; what reads the outputs of the heads is in none."""
    modules = node.name.split('/')[1:-1]
    return bool(modules[1:] if modules[:1] == ['detector'] else modules)


def _say_the_same(model: Any, file: Path) -> None:
    """Give a file the metadata of another, in place of what onnxruntime notes there for itself."""
    import onnx

    written = onnx.load(str(file))
    del written.metadata_props[:]
    written.metadata_props.extend(model.metadata_props)
    onnx.save(written, str(file))


class _Reader:
    """What onnxruntime asks for images, one after another."""

    def __init__(self, images: Iterable[tuple[Tensor, Tensor]], sizes: bool) -> None:
        self.images: Iterator[tuple[Tensor, Tensor]] = iter(images)
        self.sizes = sizes
        self.given = 0

    def get_next(self) -> dict[str, Any] | None:
        """Return the next, or None."""
        image, size = next(self.images, (None, None))
        if image is None or size is None:
            return None
        self.given += 1
        return {'images': image.numpy(), **({'sizes': size.numpy()} if self.sizes else {})}


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep onnxruntime's advice about its own preparation of models out of the output."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)

"""The ONNX file of a student, compared with PyTorch before anybody relies on it."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kddense.exchange import ImageFormat

from .errors import first_sentence
from .network import Network, exportable

ONNX_PACKAGES = ('onnx', 'onnxruntime')
OPSET = 17  # the newest of PyTorch 2.1
TOLERANCE = 1e-3
# From the most useful file to the one that is better than none.
DYNAMIC_AXES: tuple[dict[int, str], ...] = ({0: 'batch', 2: 'height', 3: 'width'}, {0: 'batch'}, {})


@dataclass(frozen=True)
class OnnxReport:
    """What was found out about an ONNX file.

    Attributes:
        outputs: Names of its outputs.
        dynamic: Which of ``'batch'``, ``'height'`` and ``'width'`` may vary.
        size: Height and width of the images that it was exported with.
        difference: The greatest difference from PyTorch on random images, relative to the greatest value of an output.
        limit: Why no more of the input may vary; empty if all of it may.
    """

    outputs: tuple[str, ...]
    dynamic: tuple[str, ...]
    size: tuple[int, int]
    difference: float
    limit: str = ''


def require_onnx() -> None:
    """Raise an ImportError that says what to install, if a package for ONNX is absent."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"ONNX needs {' and '.join(missing)}, not installed here: pip install 'kddense[onnx]'")


def write_onnx(student: nn.Module, file: Path, size: tuple[int, int], meta: Mapping[str, Any]) -> OnnxReport:
    """Export with as many dynamic axes as give PyTorch's values, and write down what the input must look like.

    Args:
        student: In eval mode.
        file: The file to write.
        size: Height and width of the images to export with.
        meta: That of the student's checkpoint.

    Raises:
        RuntimeError: If no file gives PyTorch's values.
    """
    network = Network(student).eval()
    traced = Network(exportable(student)).eval()
    names = network.output_names(size)
    reason = ''
    for axes in DYNAMIC_AXES:
        try:
            _trace(traced, names, file, size, axes)
            difference = _difference(network, file, size, axes)
        except Exception as error:  # PyTorch's exporter, the student's own code or ONNX Runtime
            reason = first_sentence(error)
            continue
        if difference <= TOLERANCE:  # False for NaN too
            _describe(student, file, meta)
            return OnnxReport(names, tuple(axes.values()), size, difference, limit=reason)
        reason = f'its values differ from those of PyTorch by {difference:.1e}, relative to the greatest'
    raise RuntimeError(f'{type(student).__name__} cannot be exported to ONNX: {reason}')


@torch.no_grad()
def _trace(network: Network, names: Sequence[str], file: Path, size: tuple[int, int], axes: dict[int, str]) -> None:
    """Export by tracing, which every PyTorch since 2.1 can; the newer exporter needs more packages and gives no more."""
    images = torch.zeros(2 if axes else 1, 3, *size)
    tracing = {'dynamo': False} if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
    with warnings.catch_warnings(), _silent_output():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            network,
            (images,),
            str(file),
            input_names=['images'],
            output_names=list(names),
            dynamic_axes={'images': axes, **{name: _axes_of(name, axes) for name in names}},
            opset_version=OPSET,
            **tracing,  # type: ignore[arg-type]
        )


def _axes_of(output: str, axes: dict[int, str]) -> dict[int, str]:
    """Name the axes of an output; only the levels of a pyramid are of another height and width than the images."""
    if not output.startswith('level'):
        return axes
    return {axis: what if what == 'batch' else f'{output}_{what}' for axis, what in axes.items()}


@contextmanager
def _silent_output() -> Iterator[None]:
    """Keep the standard output clean: where an export fails, PyTorch's C++ prints the whole graph to it."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, 'w') as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@torch.no_grad()
def _difference(network: Network, file: Path, size: tuple[int, int], axes: dict[int, str]) -> float:
    """Return the greatest relative difference on random images, of other numbers and sizes too where they may vary."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # an error is raised all the same
    session = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])
    random = torch.Generator().manual_seed(0)
    step = max(32, ImageFormat.of(network.student.data_preprocessor).size_divisor)
    differences = []
    for shape in _shapes(size, axes, step):
        images = torch.randn(shape, generator=random)
        found = map(torch.from_numpy, session.run(None, {'images': images.numpy()}))
        differences += [_relative(*pair) for pair in zip(found, network(images), strict=True)]
    return torch.tensor(differences).max().item()


def _shapes(size: tuple[int, int], axes: dict[int, str], step: int) -> list[tuple[int, ...]]:
    height, width = size
    if 2 in axes:
        return [(1, 3, *size), (2, 3, height + step, width + 2 * step)]
    return [(1, 3, *size), (3, 3, *size)] if axes else [(1, 3, *size)]


def _relative(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float('inf')
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()


def _describe(student: Any, file: Path, meta: Mapping[str, Any]) -> None:
    """Write into the file how images become its input, and the names of the classes."""
    import onnx

    pixels = ImageFormat.of(student.data_preprocessor)
    facts = dict(
        mean=pixels.mean,
        std=pixels.std,
        bgr_to_rgb=pixels.reversed_channels,
        size_divisor=pixels.size_divisor,
        classes=(meta.get('dataset_meta') or {}).get('classes'),
    )
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items() if value is not None})
    onnx.checker.check_model(model)
    onnx.save(model, str(file))

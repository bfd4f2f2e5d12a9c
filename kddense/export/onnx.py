"""The ONNX file of a student, compared with PyTorch before anybody relies on it."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kddense.errors import ConfigError
from kddense.exchange import ImageFormat

from .agreement import Agreement, compare
from .detectors.base import sizes_of
from .errors import first_sentence
from .images import read_images
from .network import OUTPUTS, Network, channels_of, exportable, network_of
from .onnx_file import OnnxFile

ONNX_PACKAGES = ('onnx', 'onnxruntime')
OPSET = 17  # the newest of PyTorch 2.1
TOLERANCE = 1e-3
# From the most useful file to the one that is better than none, and what they are called.
DYNAMIC = ('size', 'batch', 'none')
DYNAMIC_AXES: tuple[dict[int, str], ...] = ({0: 'batch', 2: 'height', 3: 'width'}, {0: 'batch'}, {})


@dataclass(frozen=True)
class OnnxOptions:
    """What an ONNX file is to give and take.

    Attributes:
        size: Height and width of the images to export with.
        outputs: One of :data:`kddense.export.network.OUTPUTS`.
        dynamic: What of the images may vary: their number and ``'size'``, their number (``'batch'``), or ``'none'``.
        padded: Whether the file also takes the ``sizes`` of images without their padding.
        images: Files that it is compared with PyTorch on, beside random images.

    Raises:
        ValueError: If there is no such choice.
    """

    size: tuple[int, int]
    outputs: str = 'results'
    dynamic: str = 'size'
    padded: bool = False
    images: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for name, known in (('outputs', OUTPUTS), ('dynamic', DYNAMIC)):
            if getattr(self, name) not in known:
                raise ValueError(f'{name} must be one of {", ".join(known)}, got {getattr(self, name)!r}')


@dataclass(frozen=True)
class OnnxReport:
    """What was found out about an ONNX file.

    Attributes:
        outputs: Names of its outputs.
        dynamic: Which of ``'batch'``, ``'height'`` and ``'width'`` may vary.
        size: Height and width of the images that it was exported with.
        difference: The greatest difference from PyTorch on random images, relative to the greatest value of an output.
        limit: Why no more of the input may vary; empty if all of it may.
        detections: How a detector's detections on these images compare with those of mmdet.
    """

    outputs: tuple[str, ...]
    dynamic: tuple[str, ...]
    size: tuple[int, int]
    difference: float
    limit: str = ''
    detections: Agreement | None = None


def require_onnx() -> None:
    """Raise an ImportError that says what to install, if a package for ONNX is absent."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"ONNX needs {' and '.join(missing)}, not installed here: pip install 'kddense[onnx]'")


def write_onnx(student: nn.Module, file: Path, options: OnnxOptions, meta: Mapping[str, Any]) -> OnnxReport:
    """Export with as many dynamic axes as give PyTorch's values, and write down what the input must look like.

    Args:
        student: In eval mode; it is left as it is.
        file: The file to write.
        options: What the file is to give and take.
        meta: That of the student's checkpoint.

    Raises:
        ValueError: If the options do not fit the student.
        RuntimeError: If no file gives PyTorch's values.
    """
    network = network_of(student, options.size, options.outputs)
    traced = network_of(exportable(student), options.size, options.outputs)
    if options.padded and not network.takes_sizes:
        raise ValueError(
            f'--padded: {type(student).__name__} has no use for the sizes of images, only boxes are cut there'
        )
    given = list(read_images(options.images, options.size, ImageFormat.of(network.student.data_preprocessor)))
    reason = ''
    for axes in DYNAMIC_AXES[DYNAMIC.index(options.dynamic) :]:
        try:
            _trace(traced, file, options, axes)
            difference, agreement = _compared(
                network, file, [*_random(student, options.size, axes), *given], options.padded
            )
        except ConfigError as error:  # onnxruntime cannot read the file, and says why
            reason = first_sentence(error.__cause__ or error)
            continue
        except Exception as error:  # PyTorch's exporter, the student's own code or ONNX Runtime
            reason = first_sentence(error)
            continue
        if difference <= TOLERANCE and (agreement is None or agreement.holds):  # False for NaN too
            _finish(network, file, options, meta)
            return OnnxReport(network.kept, tuple(axes.values()), options.size, difference, reason, agreement)
        reason = _what_differs(difference, agreement)
    raise RuntimeError(f'{type(student).__name__} cannot be exported to ONNX: {reason}')


def _what_differs(difference: float, agreement: Agreement | None) -> str:
    if difference <= TOLERANCE and agreement is not None:
        return f'of {agreement.number} detections only {agreement.same} are those of PyTorch'
    return f'its values differ from those of PyTorch by {difference:.1e}, relative to the greatest'


@torch.no_grad()
def _trace(network: Network, file: Path, options: OnnxOptions, axes: dict[int, str]) -> None:
    """Export by tracing, which every PyTorch since 2.1 can; the newer exporter needs more packages and gives no more."""
    images = torch.zeros(2 if axes else 1, channels_of(network.student), *options.size)
    given = {'images': images, **({'sizes': sizes_of(images)} if options.padded else {})}
    dynamic = {'images': axes, **{name: network.axes(name, axes) for name in network.names}}
    if options.padded:
        dynamic['sizes'] = {axis: what for axis, what in axes.items() if axis == 0}
    tracing = {'dynamo': False} if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
    with warnings.catch_warnings(), _silent_output():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            network,
            tuple(given.values()),
            str(file),
            input_names=list(given),
            output_names=list(network.names),
            dynamic_axes=dynamic,
            opset_version=OPSET,
            **tracing,  # type: ignore[arg-type]
        )


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


def _compared(
    network: Network, file: Path, batches: list[tuple[Tensor, Tensor]], padded: bool
) -> tuple[float, Agreement | None]:
    """Compare on images, with their sizes where the file takes them."""
    run = OnnxFile(file)
    results = []
    for images, sizes in batches:
        told = sizes if padded else None
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of mmdet, about whole batches
            results.append(compare(network, run(images, told), images, told))
    differences, agreements = zip(*results, strict=True)
    seen = [agreement for agreement in agreements if agreement is not None]
    return torch.tensor(differences).max().item(), sum(seen, Agreement()) if seen else None


def _random(student: Any, size: tuple[int, int], axes: dict[int, str]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield random images with heights and widths that the second of a batch does not fill."""
    random = torch.Generator().manual_seed(0)
    step = max(32, ImageFormat.of(student.data_preprocessor).size_divisor)
    shapes = [(1, size)]
    if 2 in axes:
        shapes.append((2, (size[0] + step, size[1] + 2 * step)))
    elif axes:
        shapes.append((3, size))
    for number, shape in shapes:
        images = torch.randn(number, channels_of(student), *shape, generator=random)
        yield images, sizes_of(images) - torch.arange(number)[:, None]


def _finish(network: Network, file: Path, options: OnnxOptions, meta: Mapping[str, Any]) -> None:
    """Leave out of the file what was only compared, and write down what its input is."""
    from onnx.utils import extract_model

    if network.kept != network.names:
        whole = file.with_suffix('.whole.onnx')
        file.rename(whole)
        extract_model(str(whole), str(file), ['images', *(['sizes'] if options.padded else [])], list(network.kept))
        whole.unlink()
    _describe(network.student, file, meta)


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

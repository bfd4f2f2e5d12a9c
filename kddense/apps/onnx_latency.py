"""How long ONNX files take for an image, file by file in turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kddense.errors import ConfigError, within
from kddense.export.onnx import require_onnx
from kddense.export.onnx_file import OnnxFile
from kddense.report.costs import timed

WARMUP = 3


def measure_files(
    files: Sequence[Path], shape: tuple[int, int, int], rounds: int, threads: int, clock: str = 'wall'
) -> dict[str, Any]:
    """Time ONNX files on the same random images; in every round each runs once, so that a busy machine slows all alike.

    Args:
        files: Of :mod:`kddense.export`.
        shape: Number of images, height, width.
        rounds: How often each is timed.
        threads: How many onnxruntime may use.
        clock: See :func:`kddense.report.costs.timed`.

    Returns:
        For JSON: ``shape``, ``rounds``, ``threads``, ``clock``, and in ``files`` for each its ``milliseconds`` (median),
        its ``bytes`` and its ``ratio`` to the first: the median of the rounds' ratios, with their ``quartiles``.

    Raises:
        ConfigError: If a file is missing, is no ONNX file, or does not take such images.
        ImportError: If onnxruntime is not installed.
    """
    require_onnx()
    runs = [_run(file, shape, threads) for file in files]
    times: list[list[float]] = [[] for _ in files]
    for index in range(WARMUP + rounds):
        for run, own in zip(runs, times, strict=True):
            seconds = timed(run, 'cpu', clock)
            if index >= WARMUP:
                own.append(1000 * seconds)
    figures = [
        dict(file=str(file), bytes=file.stat().st_size, milliseconds=statistics.median(own), **_ratio(own, times[0]))
        for file, own in zip(files, times, strict=True)
    ]
    return dict(shape=list(shape), rounds=rounds, threads=threads, clock=clock, files=figures)


def table(figures: dict[str, Any]) -> str:
    """Return the figures as lines of text."""
    width = max(len(one['file']) for one in figures['files'])
    return '\n'.join(
        f'{one["file"]:<{width}} {one["milliseconds"]:9.1f} ms {one["bytes"] / 1e6:9.2f} MB   '
        f'ratio {one["ratio"]:.3f} (quartiles {one["quartiles"][0]:.3f} to {one["quartiles"][1]:.3f})'
        for one in figures['files']
    )


def _ratio(own: Sequence[float], first: Sequence[float]) -> dict[str, Any]:
    ratios = [mine / other for mine, other in zip(own, first, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return dict(ratio=middle, quartiles=[low, high])


def _run(file: Path, shape: tuple[int, int, int], threads: int) -> Any:
    """Return a call that runs a file on images that it takes."""
    with within('--onnx'):
        run = OnnxFile(file, threads)
    number, height, width = shape
    images = torch.randn(number, run.channels, height, width, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([[height, width]] * number, dtype=torch.float32) if run.takes_sizes else None
    try:
        run(images, sizes)
    except Exception as error:
        raise ConfigError(f'--onnx: {file} takes no images of --shape {number} {height} {width}') from error
    return partial(run, images, sizes)
